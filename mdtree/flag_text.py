"""What a careful reader should know, in words: the flags of a record and of a diagnosis."""

from __future__ import annotations

FLAG_TEXT = {
    "not_training": "the network is near chance on its own training data: it did not train",
    "other_protocol": "measured by another protocol than the zoo: thresholds may not apply",
    "foreign_task": "another data set than the zoo's: what a change gained there may not be what it gains here",
    "set_too_alike": "the set is too alike to be ranked: each checkpoint by itself",
    "readings_disagree": "growth and gradient do not point to the same side: no temperature is blamed",
    "sibling_of_another_recipe": "a sibling was trained by another recipe than the checkpoint (see what was opened): "
    "what the pair tells of connectivity and similarity, and the verdict with it, may be wrong",
    "siblings_share_start": "the siblings were fine-tuned from the same weights: such networks lie in one basin and "
    "agree, so that connectivity and similarity look better than between networks from fresh weights, as the zoos' are",
    "outside_zoo": "out of the zoo: further from its networks than they are from one another; trust the verdict less",
    "resembles_public_table": "more like the public ResNet table (hot there is a noise floor) than like the zoo",
    "single_class": "all training labels are of one class: there is nothing to learn",
    "eigenvalues_not_converged": "the top eigenvalues did not reach the protocol's tolerance",
    "trace_precision_not_reached": "the trace did not reach the protocol's precision",
    "trace_negative": "the trace of the Hessian is negative: far from a minimum",
    "sibling_too_near": "a sibling is nearer than a fresh training could be: is it another seed?",
    "eigenvalue_precision_not_reached": "the top eigenvalue did not reach the protocol's precision on all its samples",
    "gradient_below_noise": "the gradient is smaller than its sampling error, which stands in its place",
    "finite_difference_products": "a layer has no second derivative: Hessian products are differences of gradients",
    "budget_cut_hessian": "the time budget was spent before the Hessian",
    "budget_cut_siblings": "the time budget was spent before the siblings",
}
NUMBERED_FLAG_TEXT = {
    "budget_cut_samples_to": "time budget: measured on {} training samples only, with larger errors",
    "budget_cut_hessian_samples_to": "time budget: the Hessian was measured on at most {} samples",
    "batch_size_halved_to": "memory ran out: {} samples at a time were measured; last digits may differ",
}


def flag_text(flag: str) -> str:
    """A flag in words; numbers at the end of a flag's name belong to the sentence."""
    name, _, number = flag.rpartition("_")
    if number.isdigit() and name in NUMBERED_FLAG_TEXT:
        return NUMBERED_FLAG_TEXT[name].format(f"{int(number):,}")
    return FLAG_TEXT.get(flag, flag.replace("_", " "))

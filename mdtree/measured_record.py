"""The record of a measurement: what was measured, and what the files, the network and the data say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from landscape import Measurement
from mdtree.prepare import Prepared
from mdtree.recipes.recipe import RecipeValue
from mdtree.record import Metric, NotMeasured, Record


def record_of(measured: Measurement) -> Record:
    """The measured part of a record."""
    return Record(
        checkpoint={},
        recipe={},
        protocol={**measured.protocol.to_dict(), "digest": measured.protocol.digest()},
        execution=measured.execution.to_dict(),
        metrics={name: Metric(v.value, v.standard_error, v.samples) for name, v in measured.metrics.items()},
        not_measured=tuple(NotMeasured(n.metric, n.reason) for n in measured.not_measured),
        series=measured.series,
        layers=tuple(measured.layers),
        flags=tuple(measured.flags),
        cost={"seconds": measured.cost.seconds, "sample_gradients": measured.cost.sample_gradients},
    )


def with_sources(prepared: Prepared, record: Record) -> Record:
    """The record with the part that files, network and data give."""
    opened, data, start = prepared.opened, prepared.data, prepared.start
    recipe, recipe_from = _completed(opened.recipe, opened.recipe_sources, len(data.y_train))
    checkpoint = {
        "path": str(opened.path),
        "sha256": opened.sha256,
        "framework": opened.framework,
        "layout": opened.layout,
        "weights_from": opened.weights_from,
        "weights_there": list(opened.candidates),
        "model": prepared.network.spec,
        "model_from": prepared.network.source,
        "data": data.specification,
        "data_from": prepared.data_from.source,
        "data_set": data.name,
        "class_counts": list(data.class_counts),
        "normalisation": data.normalisation,
        "recipe_from": recipe_from,
        "fine_tuned_from": opened.fine_tuned_from,
        "siblings": [str(one.path) for one in prepared.others],
        "notes": list(prepared.notes),
        "file_notes": list(opened.file_notes),
    }
    not_measured = tuple(
        replace(one, reason=start.reason) if one.metric == "log_weight_growth" and start.reason else one
        for one in record.not_measured
    )
    return replace(
        record,
        checkpoint=checkpoint,
        recipe=recipe,
        not_measured=not_measured,
        flags=(*record.flags, *prepared.flags),
    )


def _completed(
    recipe: Mapping[str, RecipeValue], sources: Mapping[str, str], samples: int
) -> tuple[dict[str, RecipeValue], dict[str, str]]:
    """The recipe and its sources, with what the data add: how many samples there are, and so how many a step takes."""
    values, told = dict(recipe), {name: sources[name] for name in recipe if name in sources}
    if "train_size" not in values:
        values["train_size"] = samples
        told["train_size"] = "the data"
    steps, epochs = values.get("steps"), values.get("epochs")
    if "batch_size" not in values and isinstance(steps, int) and isinstance(epochs, int | float) and steps > 0 < epochs:
        size = round(samples * epochs / steps)
        if size > 0:
            values["batch_size"] = size
            told["batch_size"] = "about: samples x epochs / steps"
    return values, told

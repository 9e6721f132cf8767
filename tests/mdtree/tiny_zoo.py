"""The specification of a zoo that is built in seconds, for tests that build one for real."""

SPECIFICATION = """
family = "tiny"
seeds = 3
[data]
name = "digits"
seed = 0
train = [40, 80]
label_noise = [0.0]
[model]
name = "mlp"
width = [3, 6]
[training]
learning_rate = [0.003, 0.05]
batch_size = 8
steps = 60
momentum = 0.9
weight_decay = 5e-4
schedule = "constant_then_linear"
[held_out]
share = 0.5
seed = 1
[protocol]
curve_steps = 20
"""

"""Callbacks for trainers, which make checkpoints that explain themselves and diagnose when training ends; and trackers.

Each module needs its trainer or its tracker, which is an extra of its name: ``pip install
'mdtree-diagnosis[lightning]'``, ``[transformers]``, ``[tensorboard]``, ``[mlflow]``, ``[wandb]``. The three trackers
have one function, ``log_diagnosis(diagnosis, destination, step)``; what it logs and under which names stands in
`mdtree.integrations.trackers`. Nothing here is imported by ``import mdtree``.
"""

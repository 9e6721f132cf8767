"""Callbacks for trainers: checkpoints that explain themselves, and a diagnosis when training ends.

Each module needs its trainer: ``pip install 'mdtree-diagnosis[lightning]'`` or ``'mdtree-diagnosis[transformers]'``.
Nothing here is imported by ``import mdtree``.
"""

"""The records in the file of an offline run of Weights & Biases: LevelDB's log format with a header of seven bytes."""

import json

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(file):
    """Every record, in order."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = HEADER, []
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:  # a block's end too short for a header is padding
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        assert kind in (WHOLE, FIRST, MIDDLE, LAST)
        parts.append(data[position + HEADER : position + HEADER + length])
        position += HEADER + length
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(b"".join(parts))
            yield record
            parts = []


def history(file):
    """The rows that were logged: name, parts joined by ``/``, to value."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def summary(file):
    """What the run's summary holds in the end, nested values left out."""
    return {
        item.key: json.loads(item.value_json) for record in records(file) for item in record.summary.update if item.key
    }


def artifacts(file):
    """What was logged as artefacts."""
    return [record.artifact for record in records(file) if record.WhichOneof("record_type") == "artifact"]

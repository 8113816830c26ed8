#!/usr/bin/env python3
"""Reads an episode with the `mcap` and `mcap-protobuf-support` packages of PyPI, as any other
program would: checks every CRC, decodes every message by the schemas in the file, and prints one
line per topic. Exits 1 at the first thing that is wrong.

    mcap_check.py FILE.mcap...
"""

import sys
from collections import defaultdict

from google.protobuf.unknown_fields import UnknownFieldSet
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from mcap_protobuf.decoder import DecoderFactory


def fields(message, prefix=""):
    """The message's plain numbers and texts, nested ones by their path."""
    for descriptor, value in message.ListFields():
        name = prefix + descriptor.name
        if hasattr(value, "ListFields"):
            yield from fields(value, name + ".")
        else:
            yield name, value


def check(path):
    with open(path, "rb") as file:
        records = sum(1 for _ in StreamReader(file, validate_crcs=True).records)
    topics = defaultdict(lambda: {"messages": 0, "fields": {}, "first": None, "last": None})
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            assert schema.encoding == channel.message_encoding == "protobuf", channel
            assert not len(UnknownFieldSet(decoded)), f"{schema.name} does not describe every field"
            topic = topics[f"{channel.topic} {schema.name}"]
            topic["messages"] += 1
            topic["fields"].update(fields(decoded))
            topic["first"] = topic["first"] or message.log_time
            topic["last"] = message.log_time
        metadata = {record.name: record.metadata for record in reader.iter_metadata()}
    counted = sum(topic["messages"] for topic in topics.values())
    assert counted == summary.statistics.message_count, (counted, summary.statistics)
    print(f"{path}: {records} records, {summary.statistics.chunk_count} chunks, all CRCs hold")
    for name, topic in sorted(topics.items()):
        seconds = (topic["last"] - topic["first"]) * 1e-9
        print(f"  {name}: {topic['messages']} messages in {seconds:.3f} s: {', '.join(topic['fields'])}")
    for name, values in metadata.items():
        print(f"  metadata {name}: " + ", ".join(f"{key}={value}" for key, value in values.items()))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for argument in sys.argv[1:]:
        check(argument)

#!/usr/bin/env python3
"""Prints the numbers of an episode's steps, one line a step: ticks, then what is measured, sent and
wished for by its names, each 32-bit number as the hexadecimal digits of its bits.

    steps.py FILE.mcap
"""

import struct
import sys

from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

FIELDS = ["position", "velocity", "load", "current", "temperature", "sent", "achieved_goal", "desired_goal"]


def line(step):
    words = [str(step.tick), str(step.monotonic_ns)]
    for field in FIELDS:
        for part, value in ((d.name, v) for d, v in getattr(step, field).ListFields()):
            words.append(f"{field}.{part}={struct.pack('>f', value).hex()}")
    return " ".join(words)


with open(sys.argv[1], "rb") as file:
    reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
    for _, _, _, step in reader.iter_decoded_messages(topics=["/step"]):
        print(line(step))

"""What the vendors' SDKs put on the wire and read from it, through a port that is a buffer.

Usage: sdks.py FOLDER, which has answers.json; writes said.json beside it.
"""

import json
import pathlib
import random
import sys

import dynamixel_sdk as dxl
import scservo_sdk as scs

REQUESTS = 250  # of each kind
BROADCAST = 0xFE


class Buffer:
    """The port of both SDKs."""

    tx_time_per_byte = 0.01

    def __init__(self, answer=b""):
        self.is_using = False
        self.sent, self.answer = b"", bytes(answer)

    def clearPort(self):
        pass

    def writePort(self, packet):
        self.sent = bytes(packet)
        return len(packet)

    def readPort(self, count):
        read, self.answer = self.answer[:count], self.answer[count:]
        return read

    def setPacketTimeout(self, _):
        pass

    setPacketTimeoutMillis = setPacketTimeout

    def isPacketTimeout(self):
        return not self.answer

    def getBaudRate(self):
        return 1_000_000


class Stuffing(dxl.Protocol2PacketHandler):
    """txPacket drops the packet that addStuffing returns when something was stuffed in."""

    def addStuffing(self, packet):
        packet[:] = super().addStuffing(packet)
        return packet


def some_bytes(count):
    return [random.choice([0xFF, 0xFF, 0xFD, random.randrange(256)]) for _ in range(count)]


def some_ids():
    return random.sample(range(253), random.randint(1, 8))


def single(handler, protocol, addresses):
    """Requests to one servo: kind, address, size, data, and the call that sends it."""
    servo, address, data = random.randrange(253), random.randrange(addresses), some_bytes(random.randint(1, 9))
    size = len(data)
    calls = [
        ("ping", 0, 0, [], lambda port: handler.ping(port, servo)),
        ("read", address, size, [], lambda port: handler.readTx(port, servo, address, size)),
        ("write", address, 0, data, lambda port: handler.writeTxOnly(port, servo, address, size, data)),
        ("reg_write", address, 0, data, lambda port: handler.regWriteTxOnly(port, servo, address, size, data)),
        ("action", 0, 0, [], lambda port: handler.action(port, servo)),
    ]
    if protocol == 2:
        calls += [
            ("reboot", 0, 0, [], lambda port: handler.reboot(port, servo)),
            ("clear_multi_turn", 0, 0, [], lambda port: handler.clearMultiTurn(port, servo)),
            ("factory_reset_all", 0, 0, [], lambda port: handler.factoryReset(port, servo, 0xFF)),
            ("factory_reset_id", 0, 0, [], lambda port: handler.factoryReset(port, servo, 0x01)),
        ]
    return servo, calls


def several(sdk, handler, protocol, addresses):
    """Requests to several servos."""
    ids, address, size = some_ids(), random.randrange(addresses), random.randint(1, 6)
    values = {servo: some_bytes(size) for servo in ids}
    blocks = [byte for servo in ids for byte in [servo, *values[servo]]]

    def sync_read(port, send="txPacket"):
        group = sdk.GroupSyncRead(port, handler, address, size)
        for servo in ids:
            group.addParam(servo)
        getattr(group, send)()

    def sync_write(port):
        group = sdk.GroupSyncWrite(port, handler, address, size)
        for servo in ids:
            group.addParam(servo, values[servo])
        group.txPacket()

    calls = [("sync_read", address, size, ids, sync_read), ("sync_write", address, size, blocks, sync_write)]
    if protocol == 1:
        return calls
    head = [address & 0xFF, address >> 8, size, 0]
    reads = [byte for servo in ids for byte in [servo, *head]]
    writes = [byte for servo in ids for byte in [servo, *head, *values[servo]]]

    def bulk_read(port, send="txPacket"):
        group = sdk.GroupBulkRead(port, handler)
        for servo in ids:
            group.addParam(servo, address, size)
        getattr(group, send)()

    def bulk_write(port):
        group = sdk.GroupBulkWrite(port, handler)
        for servo in ids:
            group.addParam(servo, address, size, values[servo])
        group.txPacket()

    return calls + [
        ("fast_sync_read", address, size, ids, lambda port: sync_read(port, "fastSyncReadTxPacket")),
        ("bulk_read", 0, 0, reads, bulk_read),
        ("fast_bulk_read", 0, 0, reads, lambda port: bulk_read(port, "fastBulkReadTxPacket")),
        ("bulk_write", 0, 0, writes, bulk_write),
    ]


def requests(sdk, handler, protocol, addresses):
    found = []
    for _ in range(REQUESTS):
        servo, calls = single(handler, protocol, addresses)
        everyone = [(BROADCAST, call) for call in several(sdk, handler, protocol, addresses)]
        for servo, (kind, address, size, data, call) in [(servo, call) for call in calls] + everyone:
            port = Buffer()
            call(port)
            found.append(
                {"protocol": protocol, "kind": kind, "id": servo, "address": address, "size": size,
                 "data": data, "bytes": list(port.sent)}
            )
    return found


def verdict(handlers, answer):
    """The error byte and the data of an answer that the SDK takes."""
    port = Buffer(answer["bytes"])
    try:
        data, result, error = handlers[answer["protocol"]].readRx(port, answer["id"], answer["size"])
    except IndexError:  # They index beyond what came.
        return None
    return [error, list(data)] if result == dxl.COMM_SUCCESS else None


def main():
    folder = pathlib.Path(sys.argv[1])
    random.seed(1)
    handlers = {1: scs.PacketHandler(0), 2: Stuffing()}
    answers = json.loads((folder / "answers.json").read_text())
    said = {
        "requests": requests(scs, handlers[1], 1, 256) + requests(dxl, handlers[2], 2, 65536),
        "verdicts": [verdict(handlers, answer) for answer in answers],
    }
    (folder / "said.json").write_text(json.dumps(said))


main()

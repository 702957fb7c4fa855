#!/usr/bin/env python3
"""Our safetensors reader takes what the `safetensors` package takes, and refuses what it refuses."""

import hashlib
import itertools
import json
import os
import random
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save

READ = os.environ["CALIBATT_READ_CONTAINERS"]
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32,
        "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "F8_E5M2": 8, "F8_E4M3": 8,
        "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "C64": 64, "F6_E2M3": 6,
        "F6_E3M2": 6, "F4": 4}
MAX_HEADER = 16 << 20


def container(header, data=b""):
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text)) + text + data


def as_object(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def as_list(dtype, shape, begin, end):
    return [dtype, shape, [begin, end]]


def with_more(dtype, shape, begin, end):
    return {"note": {"a": [1.5, None, True, -3, "x"]}, "data_offsets": [begin, end],
            "dtype": dtype, "shape": shape}


def with_long_type(dtype, shape, begin, end):
    return as_object({dtype: None}, shape, begin, end)


ENTRIES = (as_object, as_list, with_more, with_long_type)
# Around the document; the last ones are no white space of JSON, or not only that.
FRAMES = (("", ""), ("", "   "), ("  ", ""), ("\n\t ", "\r\n"), ("", "\n"), ("", "\0"), ("", "\x0b"),
          ("", "{}"), ("", "\0junk"), ("\ufeff", ""), ("\u00a0", ""), ("", ","))
METADATA = ("{}", '{"k":"v"}', "null", '{"k":""}', '{"k":"\\u00e9\\ud83d\\ude00"}', '{"k":1}',
            '{"k":null}', "[]", '"k"', '{"k":"\\ud800"}', '{"k":{}}', "3", '{"k":"\u0001"}')


def expected(blob):
    """Name -> (dtype, shape, hash) as the reference reads it, or its reason to refuse."""
    try:
        read = safetensors.deserialize(blob)
    except safetensors.SafetensorError as error:
        return str(error)
    return {name: (t["dtype"], list(t["shape"]), hashlib.sha256(bytes(t["data"])).hexdigest())
            for name, t in read}


class ReferenceTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.seed = random.randrange(1 << 30)
        self.random = random.Random(self.seed)

    def ours(self, blobs):
        paths = []
        for number, blob in enumerate(blobs):
            paths.append(self.folder / str(number))
            paths[-1].write_bytes(blob)
        done = subprocess.run([READ], input="".join(f"{path}\n" for path in paths), text=True,
                              capture_output=True, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(lines), len(blobs))
        return zip(paths, lines)

    def check(self, blobs, least_taken=1, least_refused=1):
        """Takes and refuses the same, and what is taken has the same tensors."""
        blobs = list(blobs)
        taken = 0
        for blob, (path, got) in zip(blobs, self.ours(blobs)):
            wanted = expected(blob)
            said = f"seed {self.seed}: {blob[:300]!r}: {wanted if isinstance(wanted, str) else ''} | {got}"
            self.assertNotIn("failed", got, said)
            if isinstance(wanted, str):
                self.assertIn("refused", got, said)
                self.assertTrue(got["refused"].startswith(f"{path}: "), said)
                self.assertLess(len(got["refused"]), len(str(path)) + 500, said)
                continue
            self.assertIn("tensors", got, said)
            self.assertTrue(all(t["same"] for t in got["tensors"]), said)
            self.assertEqual({t["name"]: (t["dtype"], t["shape"], t["sha256"])
                              for t in got["tensors"]}, wanted, said)
            taken += 1
        self.assertGreaterEqual(taken, least_taken)
        self.assertGreaterEqual(len(blobs) - taken, least_refused)

    def shape(self, dtype, rank):
        shape = [self.random.choice((0, 1, 2, 3, 5, 8)) for _ in range(rank)]
        bits = BITS[dtype]
        for size in shape:
            bits *= size
        return shape, bits

    def test_every_type_shape_and_form_of_an_entry(self):
        def blobs():
            for dtype, rank, entry in itertools.product(BITS, range(4), ENTRIES):
                shape, bits = self.shape(dtype, rank)
                size = bits // 8
                first = self.random.randrange(0, 7)  # puts it at an odd offset
                header = {"t": entry(dtype, shape, first, first + size)}
                if first:
                    header["pad"] = entry("U8", [first], 0, first)
                text = json.dumps(header)
                text += " " * self.random.randrange(0, 9)
                yield container(text, self.random.randbytes(first + size))
        self.check(blobs(), least_taken=200)

    def test_offsets_that_are_right_and_every_way_to_be_wrong(self):
        def blobs():
            for begin, end, data in itertools.product(range(4), range(6), range(6)):
                yield container(json.dumps({"t": as_object("U8", [2], begin, end)}), bytes(data))
            for a, b, c in itertools.product(range(5), repeat=3):
                yield container(json.dumps({"x": as_list("U8", [a], 0, a),
                                            "y": as_list("U8", [b], c, c + b)}), bytes(a + b))
            huge = (1 << 63, (1 << 64) - 1, 1 << 61)
            for a, b in itertools.product((0, 1, 4, *huge), repeat=2):
                for dtype in ("U8", "F64", "F4"):
                    yield container(json.dumps({"t": as_object(dtype, [a, b], 0, 0)}))
            for end in huge:
                yield container(json.dumps({"t": as_object("U8", [end], 0, end)}))
        self.check(blobs(), least_taken=30, least_refused=100)

    def test_values_of_other_types(self):
        values = ("null", "true", "1", "-1", "-0", "0", "1.0", "1e0", '"1"', "[]", "[1]", "[0,1]", "[1,2,3]",
                  "{}", '{"U8":null}', '{"U8":{}}', '{"U8":null,"I8":null}', '"U8"', '"u8"', '"F7"',
                  "18446744073709551615", "18446744073709551616", "1e999", "01", "nan", "[0,1.0]",
                  '{"0":0,"1":1}', '["U8"]')
        def blobs():
            for value in values:
                for form in ('{"t":%s}', '{"t":{"dtype":%s,"shape":[1],"data_offsets":[0,1]}}',
                             '{"t":{"dtype":"U8","shape":%s,"data_offsets":[0,1]}}',
                             '{"t":{"dtype":"U8","shape":[%s],"data_offsets":[0,1]}}',
                             '{"t":{"dtype":"U8","shape":[1],"data_offsets":%s}}',
                             '{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,%s]}}',
                             '{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":%s}}',
                             '{"t":["U8",[1],%s]}', '{"t":[%s,[1],[0,1]]}',
                             '{"t":["U8",[1],[0,1],%s]}', "%s"):
                    yield container(form % value, b"1")
            for missing in ("dtype", "shape", "data_offsets"):
                entry = as_object("U8", [1], 0, 1)
                del entry[missing]
                yield container(json.dumps({"t": entry}), b"1")
        self.check(blobs(), least_taken=30, least_refused=200)

    def test_what_is_around_the_document_and_in_its_metadata(self):
        def blobs():
            entry = json.dumps(as_object("U8", [1], 0, 1))
            for before, after in FRAMES:
                yield container(f'{before}{{"t":{entry}}}{after}', b"1")
                yield container(f"{before}{{}}{after}")
            for metadata in METADATA:
                yield container(f'{{"__metadata__":{metadata},"t":{entry}}}', b"1")
                yield container(f'{{"__meta\\u0064ata__":{metadata}}}')
            for name in (b"", b"a" * 70000, b"\x7f", b"\\u0000", b"\\n", b"\x01", "\u00e9".encode(),
                         b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\\x", b"a" * 99 + "\u00e9".encode()):
                yield container(b'{"' + name + b'":' + entry.encode() + b"}", b"1")
                yield container(b'{"' + name + b'":' + entry.encode() + b"}", b"12")
            yield container(json.dumps({"t": as_list("U8", [1] * 3000, 0, 1)}), b"1")
            yield container(json.dumps({"t": as_list("U8", [1] * 3000, 0, 1)}), b"12")
            for open_, close in (("[", "]"), ('{"a":', "}")):
                for depth in (1, 30, 31, 32, 124, 125, 126, 127, 128, 1000, 200000):
                    inner = "1" if close == "}" else ""
                    yield container('{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"m":'
                                    + open_ * depth + inner + close * depth + "}}", b"1")
                    yield container('{"t":["U8",' + open_ * depth + inner + close * depth
                                    + ",[0,1]]}", b"1")
        self.check(blobs(), least_taken=40, least_refused=40)

    def test_files_of_the_package_itself_cut_and_with_any_byte_changed(self):
        types = [np.bool_, np.uint8, np.int8, np.uint16, np.float16, np.uint32, np.float32,
                 np.uint64, np.float64, np.complex64]
        def blobs():
            for _ in range(20):
                arrays = {f"t{i}": (np.frombuffer(self.random.randbytes(240), np.uint8) % 2).astype(
                    self.random.choice(types)) for i in range(self.random.randrange(0, 5))}
                blob = save(arrays, {"k": "v"} if self.random.random() < 0.5 else None)
                yield blob
                header = 8 + struct.unpack_from("<Q", blob)[0]
                for _ in range(40):
                    changed = bytearray(blob)
                    changed[self.random.randrange(8, header)] = self.random.randrange(256)
                    yield bytes(changed)
                    yield blob[:self.random.randrange(len(blob))]
                    yield blob + self.random.randbytes(self.random.randrange(1, 9))
                for length in (0, 1, header - 9, header - 7, MAX_HEADER - 1, 1 << 62, (1 << 64) - 1,
                               100_000_000, 100_000_001):
                    yield struct.pack("<Q", length) + blob[8:]
        # A changed byte may make a key be there twice: refused, although the reference is laxer.
        self.check((blob for blob in blobs() if not has_twice(blob)), 20, 500)

    def test_refuses_keys_that_are_twice_which_the_format_forbids(self):
        entry = json.dumps(as_object("U8", [1], 0, 1))
        blobs = [container(f'{{"t":{entry},"t":{entry}}}', b"1"),
                 container('{"__metadata__":{"k":"a","k":"b"}}'),
                 container('{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1,"x":2}}', b"1"),
                 container('{"__metadata__":null,"__metadata__":null}')]
        self.assertEqual([isinstance(expected(blob), dict) for blob in blobs],
                         [True, True, True, False])
        for _, got in self.ours(blobs):
            self.assertRegex(got["refused"], 'JSON has the key "(t|k|x|__metadata__)" twice')

    def test_refuses_headers_above_16_mib_which_the_reference_takes(self):
        def padded(size):
            return container('{"t":["U8",[1],[0,1]]}'.ljust(size), b"1")
        self.check([padded(MAX_HEADER)], 1, 0)
        blob = padded(MAX_HEADER + 1)
        self.assertIsInstance(expected(blob), dict)
        [(path, got)] = self.ours([blob])
        self.assertEqual(got["refused"], f"{path}: header length is {MAX_HEADER + 1}, at most "
                                         f"{MAX_HEADER} is allowed (is it a safetensors file?)")


def has_twice(blob):
    def pairs(items):
        nonlocal twice
        twice = twice or len({key for key, _ in items}) < len(items)
        return dict(items)
    twice = False
    try:
        json.loads(blob[8:8 + struct.unpack_from("<Q", blob)[0]].decode(), object_pairs_hook=pairs)
    except (ValueError, struct.error, OverflowError):
        return False
    return twice


if __name__ == "__main__":
    unittest.main(verbosity=2)

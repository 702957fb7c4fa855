"""check-tree.py finds what it is for, in a scratch tree, and nothing in a good one."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = pathlib.Path(__file__).resolve().parents[2] / ".ci" / "check-tree.py"


class CheckTreeTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = pathlib.Path(scratch.name)
        self.write("runtime/format/Result.h", "#pragma once\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run_check(self, check):
        run = subprocess.run([sys.executable, CHECK, "--root", self.root, check],
                             capture_output=True, text=True)
        self.assertEqual(run.stderr, "")
        return run.returncode, run.stdout

    def test_allowed_arrows_pass(self):
        self.write("codegen/A.cpp", '#include "ir/Sattn.h"\n#include "runtime/format/Result.h"\n')
        self.write("runtime/tools/B.cpp", '#include "calib_profiles/Profile.h"\n')
        self.write("test/unit/C.cpp", '#include "compiler/Driver.h"\n')
        self.assertEqual(self.run_check("layers"), (0, ""))

    def test_every_forbidden_arrow_is_found(self):
        forbidden = [
            ("runtime/format/A.cpp", "runtime/src/Session.h"),
            ("calib_profiles/A.cpp", "ir/Sattn.h"),
            ("ir/A.cpp", "runtime/format/Result.h"),
            ("codegen/A.cpp", "compiler/Driver.h"),
            ("compiler/A.cpp", "runtime/src/Session.h"),
            ("runtime/A.cpp", "calib_profiles/Profile.h"),
            ("runtime/inspect/A.cpp", "runtime/tools/Commands.h"),
            ("runtime/tools/A.cpp", "codegen/KernelPlan.h"),
        ]
        for name, header in forbidden:
            with self.subTest(name=name, header=header):
                self.write(name, f'// first\n#include "{header}"\n')
                code, out = self.run_check("layers")
                self.assertEqual(code, 1)
                self.assertIn(f"{name}:2: ", out)
                self.assertIn(header, out)
                (self.root / name).unlink()

    def test_llvm_and_cuda_stay_out_of_the_runtime(self):
        for header in ("mlir/IR/Value.h", "llvm/Support/Error.h"):
            for style in ('"{}"', "<{}>"):
                self.write("runtime/A.cpp", f"#include {style.format(header)}\n")
                self.assertEqual(self.run_check("layers")[0], 1, header)
        self.write("runtime/A.cpp", "#include <cuda_runtime.h>\n")
        self.assertEqual(self.run_check("layers")[0], 1)

    def test_length_is_limited_to_700_lines_unless_a_reason_is_written(self):
        self.write("ir/A.cpp", "\n" * 700)
        self.assertEqual(self.run_check("length")[0], 0)
        self.write("ir/A.cpp", "\n" * 701)
        code, out = self.run_check("length")
        self.assertEqual(code, 1)
        self.assertIn("ir/A.cpp: 701 lines", out)
        self.write("ir/A.cpp", "// long because: one table\n" + "\n" * 700)
        self.assertEqual(self.run_check("length")[0], 0)

    def test_vague_names_and_unfinished_code_are_found(self):
        self.write("ir/StringUtils.h", "")
        self.assertIn("utils", self.run_check("names")[1])
        self.write("ir/StringUtils.h", "")
        (self.root / "ir/StringUtils.h").unlink()
        self.write("ir/A.cpp", "int x; // " + "TO" + "DO later\n")
        code, out = self.run_check("names")
        self.assertEqual(code, 1)
        self.assertIn("ir/A.cpp:1", out)

    def test_an_unknown_top_level_entry_is_found(self):
        self.write("scripts/run.py", "")
        code, out = self.run_check("toplevel")
        self.assertEqual(code, 1)
        self.assertIn("scripts", out)


if __name__ == "__main__":
    unittest.main()

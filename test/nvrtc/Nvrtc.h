// One NVRTC for all tests of this folder; without it they fail with the reason.
#pragma once

#include "codegen/CudaCompiler.h"

#include <doctest/doctest.h>

namespace calibatt::test {

inline const CudaCompiler &nvrtc() {
  static Result<CudaCompiler> compiler = CudaCompiler::load();
  REQUIRE_MESSAGE(compiler, (compiler ? "" : compiler.message()));
  return *compiler;
}

inline TargetInfo sm90a() { return findTarget("sm_90a").take(); }

} // namespace calibatt::test

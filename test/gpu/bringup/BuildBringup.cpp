// Compiles the kernels of bringup.cu. Usage: build-bringup FOLDER; the cubins are
// FOLDER/<kernel>_<head_dim>.cubin, what bringup.py takes.
#include "codegen/CudaCompiler.h"
#include "runtime/format/AtomicFile.h"

#include <fmt/format.h>
#include <fstream>
#include <sstream>

using namespace calibatt;

namespace {

Status build(const CudaCompiler &compiler, const std::string &text, const std::string &name,
             int dim, const std::string &folder) {
  const std::string symbol = fmt::format("{}_{}", name, dim);
  auto target = findTarget("sm_90a");
  if (!target)
    return target.takeError();
  auto compiled = compiler.compile(fmt::format("{}\nCALIBATT_BRINGUP({}, {})\n", text, name, dim),
                                   symbol, *target);
  if (!compiled)
    return compiled.takeError();
  auto file = AtomicFile::create(fmt::format("{}/{}.cubin", folder, symbol));
  if (!file)
    return file.takeError();
  if (Status written = file->write(compiled->cubin); !written)
    return written;
  return file->commit();
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: build-bringup FOLDER\n");
    return 2;
  }
  std::stringstream text;
  text << std::ifstream(CALIBATT_SOURCE_DIR "/test/gpu/bringup/bringup.cu").rdbuf();
  auto compiler = CudaCompiler::load();
  if (!compiler) {
    fmt::print(stderr, "build-bringup: {}\n", compiler.message());
    return 1;
  }
  for (const char *name : {"tma", "mma"})
    for (int dim : {64, 128})
      if (Status built = build(*compiler, text.str(), name, dim, argv[1]); !built) {
        fmt::print(stderr, "build-bringup: {}_{}: {}\n", name, dim, built.message());
        return 1;
      }
}

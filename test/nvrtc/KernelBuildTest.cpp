// Compiles through the kernel cache: what comes from it is what a compile gives. The cache
// alone is tested in test/tools/compile.
#include "compiler/KernelBuild.h"
#include "test/device/SamplePlans.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <iterator>

using namespace calibatt;
using namespace calibatt::test;

namespace {

namespace fs = std::filesystem;

/// A cache folder of one test.
struct Folder {
  explicit Folder(const char *name) : path(fs::path(CALIBATT_BINARY_DIR) / name) {
    fs::remove_all(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::vector<fs::path> entries() const {
    std::vector<fs::path> files;
    for (const auto &entry : fs::recursive_directory_iterator(path / "kernel"))
      if (entry.is_regular_file())
        files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }

  fs::path path;
};

std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void writeText(const fs::path &path, const std::string &text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

void checkSame(const CodeImage &a, const CodeImage &b) {
  CHECK(a.symbol == b.symbol);
  CHECK(a.form == b.form);
  CHECK(a.arch == b.arch);
  CHECK(a.fatbin == b.fatbin);
  CHECK(a.ptx == b.ptx);
  CHECK(a.registers == b.registers);
  CHECK(a.spillStores == b.spillStores);
  CHECK(a.spillLoads == b.spillLoads);
  CHECK(a.staticSmem == b.staticSmem);
  CHECK(a.dynamicSmem == b.dynamicSmem);
  CHECK(a.codeBytes == b.codeBytes);
}

} // namespace

TEST_CASE("kernels from the cache are those of a compile, and a damaged one is compiled again") {
  Folder folder("kernel_cache_build");
  std::vector<KernelSource> sources;
  for (Form form : {Form::Runs, Form::Table}) {
    SamplePlan sample = makeSample("cached", form, 64, 420, 1, 0.6, 5);
    sources.push_back({kernelSymbol(sample.plan), emitKernel(sample.plan), form,
                       uint32_t(smemBytes(sample.plan.spec))});
  }
  CompileOptions options;
  options.cacheFolder = folder.path;
  auto build = KernelBuild::open(options);
  REQUIRE_MESSAGE(build, (build ? "" : build.message()));
  auto compile = [&](uint32_t jobs) {
    auto result = build->compile(sources, jobs, CompileEvents{});
    REQUIRE_MESSAGE(result, (result ? "" : result.message()));
    REQUIRE(result->images.size() == sources.size());
    return result.take();
  };
  KernelBuildResult first = compile(2);
  CHECK(first.cached == 0);
  CHECK(folder.entries().size() == sources.size());
  KernelBuildResult second = compile(1);
  CHECK(second.cached == sources.size());

  fs::path damaged = folder.entries().at(0);
  std::string text = readText(damaged);
  text[text.size() / 2] = char(text[text.size() / 2] ^ 1);
  writeText(damaged, text);
  KernelBuildResult third = compile(2);
  CHECK(third.cached == sources.size() - 1);
  CHECK(compile(2).cached == sources.size()); // it has been stored again
  for (size_t i = 0; i < sources.size(); ++i) {
    checkSame(second.images[i], first.images[i]);
    checkSame(third.images[i], first.images[i]);
    CHECK(first.images[i].cuda == sources[i].cuda);
  }
}

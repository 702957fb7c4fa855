// One compile: cache, else the lock of its entry, the cache again, NVRTC and the fatbin writer.
#include "compiler/KernelBuild.h"

#include "codegen/CudaCompiler.h"
#include "codegen/DeviceLibrary.h"
#include "codegen/Fatbin.h"
#include "codegen/TargetInfo.h"
#include "compiler/CacheNotes.h"
#include "compiler/KernelCache.h"
#include "compiler/MemoryGate.h"
#include "runtime/format/Hash.h"
#include "runtime/format/OrderedPool.h"

#include <chrono>
#include <fmt/format.h>

namespace calibatt {

namespace {

/// What NVRTC takes to compile a source, from its length: every visit of `full` is
/// a line that becomes loads, waits and matrix steps of its own (9 MiB; peaks of
/// 16 to 76 visits), a run of `schedule` a line of two instructions (0.03 MiB;
/// peaks of 1,000 to 27,000 runs). Rounded up.
uint64_t compileBytes(const KernelSource &source) {
  constexpr uint64_t kBase = 160 << 20;
  const uint64_t perByte = source.form == Form::Full ? 192 << 10 : 1 << 10;
  return kBase + perByte * source.cuda.size();
}

} // namespace

struct KernelBuild::Impl {
  TargetInfo target;
  CudaCompiler compiler;
  FatbinWriter fatbins;
  std::optional<KernelCache> cache;
  std::string toolchain, description, digest;

  Result<CodeImage> build(const KernelSource &source, const std::atomic<bool> *cancel) const;
};

KernelBuild::KernelBuild(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
KernelBuild::KernelBuild(KernelBuild &&) noexcept = default;
KernelBuild::~KernelBuild() = default;

const std::string &KernelBuild::toolchain() const { return impl->toolchain; }
const std::string &KernelBuild::toolchainDigest() const { return impl->digest; }
std::vector<std::string> KernelBuild::files() const {
  return {impl->compiler.file(), impl->fatbins.file()};
}
uint32_t KernelBuild::minDriver() const { return impl->compiler.majorVersion() * 1000; }

Status checkArchitecture(const std::string &arch) {
  auto target = findTarget(arch);
  return target ? Status() : Status(target.takeError());
}

Result<KernelBuild> KernelBuild::open(const CompileOptions &options) {
  auto target = findTarget(options.arch);
  if (!target)
    return target.takeError();
  auto compiler = CudaCompiler::load();
  if (!compiler)
    return compiler.takeError();
  auto fatbins = FatbinWriter::load();
  if (!fatbins)
    return fatbins.takeError();
  std::optional<ContentStore> store;
  if (!options.cacheFolder.empty()) {
    auto opened = ContentStore::open(options.cacheFolder);
    if (!opened)
      return opened.takeError();
    store.emplace(opened.take());
  }
  auto impl = std::make_unique<Impl>(
      Impl{target.take(), compiler.take(), fatbins.take(), std::nullopt, {}, {}, {}});
  impl->toolchain = fmt::format("NVRTC {}, {}", impl->compiler.version(), impl->fatbins.version());
  impl->description =
      fmt::format("{}\n{}\n{}\n{}\n", impl->toolchain, impl->target.name,
                  fmt::join(CudaCompiler::options(impl->target), " "), deviceLibraryDigest());
  Sha256 hash;
  hash.update(impl->description);
  impl->digest = toHex(hash.finish());
  if (store)
    impl->cache.emplace(std::move(*store), impl->description, impl->target.name);
  return KernelBuild(std::move(impl));
}

Result<CodeImage> KernelBuild::Impl::build(const KernelSource &source,
                                           const std::atomic<bool> *cancel) const {
  auto begin = std::chrono::steady_clock::now();
  auto compiled = compiler.compile(source.cuda, source.symbol, target, cancel);
  if (!compiled)
    return compiled.takeError();
  auto fatbin = fatbins.write(compiled->cubin, target);
  if (!fatbin)
    return Error{fmt::format("{}: {}", source.symbol, fatbin.message())};
  CodeImage image;
  image.symbol = source.symbol;
  image.form = source.form;
  image.arch = target.name;
  image.fatbin = fatbin.take();
  image.ptx = std::move(compiled->ptx);
  image.registers = compiled->report.registers;
  image.spillStores = compiled->report.spillStores;
  image.spillLoads = compiled->report.spillLoads;
  image.staticSmem = compiled->report.staticSmem;
  image.dynamicSmem = source.dynamicSmem;
  image.codeBytes = compiled->codeBytes;
  image.compileSeconds =
      std::chrono::duration<float>(std::chrono::steady_clock::now() - begin).count();
  return image;
}

Result<KernelBuildResult> KernelBuild::compile(const std::vector<KernelSource> &sources,
                                               uint32_t jobs, const CompileEvents &events) const {
  struct Built {
    CodeImage image;
    bool cached = false;
    std::string warning, problem;
  };
  MemoryGate memory(availableMemory() / 8 * 7);
  std::atomic<bool> told{false};
  auto build = [&](size_t index) -> Result<Built> {
    if (events.cancelled())
      return Error{"interrupted"};
    const KernelSource &source = sources[index];
    Built built;
    auto find = [&] {
      built.problem.clear();
      if (auto found = impl->cache->find(source, &built.problem)) {
        built.image = std::move(*found);
        built.cached = true;
      }
      return built.cached;
    };
    ContentStore::Lock alone; // until the entry is there
    if (impl->cache && !find()) {
      alone = impl->cache->lock(source, events.cancel);
      find(); // who had the lock may have compiled it
    }
    if (events.cancelled())
      return Error{"interrupted"};
    if (!built.cached) {
      MemoryGate::Room room(memory, compileBytes(source));
      auto image = impl->build(source, events.cancel);
      if (events.cancelled())
        return Error{"interrupted"};
      if (!image)
        return image.takeError();
      built.image = image.take();
      // The package does not need the cache: a full disk there costs time, not the compile. It
      // would fail for every kernel, so that it is told once.
      if (impl->cache)
        if (Status stored = impl->cache->put(source, built.image); !stored && !told.exchange(true))
          built.warning = fmt::format("cache: {}; kernels that cannot be kept there are compiled "
                                      "again next time",
                                      stored.message());
    }
    built.image.cuda = source.cuda;
    built.image.persistent = source.persistent;
    return built;
  };
  KernelBuildResult result;
  CacheNotes notes;
  Status status = runOrdered(sources.size(), jobs, build, [&](size_t index, Built built) -> Status {
    result.cached += built.cached;
    result.images.push_back(std::move(built.image));
    notes.add(built.problem);
    if (!built.warning.empty() && events.warning)
      events.warning(built.warning);
    if (events.progress)
      events.progress("compiling kernels", index + 1, sources.size());
    return {};
  });
  if (!status)
    return status.takeError();
  notes.tell("kernel", events);
  return result;
}

} // namespace calibatt

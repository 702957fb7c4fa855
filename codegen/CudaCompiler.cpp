#include "codegen/CudaCompiler.h"

#include "codegen/CubinSections.h"
#include "codegen/CudaToolkit.h"
#include "codegen/DeviceLibrary.h"

#include <algorithm>
#include <fmt/format.h>

namespace calibatt {

namespace {

// The part of nvrtc.h that is used here; its header need not be installed.
using NvrtcProgram = struct NvrtcProgramHandle *;
constexpr int kNvrtcSuccess = 0;
constexpr int kNvrtcCompilationFailed = 6;

struct Nvrtc {
  int (*version)(int *major, int *minor);
  const char *(*errorString)(int result);
  int (*createProgram)(NvrtcProgram *, const char *source, const char *name, int headerCount,
                       const char *const *headers, const char *const *includeNames);
  int (*destroyProgram)(NvrtcProgram *);
  int (*compileProgram)(NvrtcProgram, int optionCount, const char *const *options);
  int (*setFlowCallback)(NvrtcProgram, int (*callback)(void *, void *), void *payload);
  int (*logSize)(NvrtcProgram, size_t *);
  int (*log)(NvrtcProgram, char *);
  int (*ptxSize)(NvrtcProgram, size_t *);
  int (*ptx)(NvrtcProgram, char *);
  int (*cubinSize)(NvrtcProgram, size_t *);
  int (*cubin)(NvrtcProgram, char *);

  Status resolve(const CudaLibrary &library) {
    Status status;
    auto get = [&](const char *symbol, auto *&function) {
      if (status)
        status = library.resolve(symbol, function);
    };
    get("nvrtcVersion", version);
    get("nvrtcGetErrorString", errorString);
    get("nvrtcCreateProgram", createProgram);
    get("nvrtcDestroyProgram", destroyProgram);
    get("nvrtcCompileProgram", compileProgram);
    get("nvrtcSetFlowCallback", setFlowCallback);
    get("nvrtcGetProgramLogSize", logSize);
    get("nvrtcGetProgramLog", log);
    get("nvrtcGetPTXSize", ptxSize);
    get("nvrtcGetPTX", ptx);
    get("nvrtcGetCUBINSize", cubinSize);
    get("nvrtcGetCUBIN", cubin);
    return status;
  }
};

/// An nvrtcProgram that is destroyed on every path.
class Program {
public:
  Program(const Nvrtc &nvrtc) : nvrtc(nvrtc) {}
  ~Program() {
    if (handle)
      nvrtc.destroyProgram(&handle);
  }
  Program(const Program &) = delete;
  Program &operator=(const Program &) = delete;

  /// The bytes of one output: its size, then its content.
  template <typename Bytes>
  int read(Bytes &bytes, int (*size)(NvrtcProgram, size_t *), int (*get)(NvrtcProgram, char *)) {
    size_t count = 0;
    int result = size(handle, &count);
    if (result != kNvrtcSuccess || count == 0)
      return result;
    bytes.resize(count);
    return get(handle, reinterpret_cast<char *>(bytes.data()));
  }

  NvrtcProgram handle = nullptr;

private:
  const Nvrtc &nvrtc;
};

/// The text up to the NUL that NVRTC counts too.
void dropTerminator(std::string &text) {
  while (!text.empty() && text.back() == '\0')
    text.pop_back();
}

int isCancelled(void *payload, void *) {
  return static_cast<const std::atomic<bool> *>(payload)->load() ? 1 : 0;
}

} // namespace

struct CudaCompiler::Impl {
  Nvrtc nvrtc{};
  std::string file, version;
  uint32_t major = 0;
  std::vector<const char *> headerNames, headerTexts;

  Result<std::string> buildVersion() const;
};

/// nvrtcVersion() stops at the minor number; the head of any PTX has the build.
Result<std::string> CudaCompiler::Impl::buildVersion() const {
  Program program(nvrtc);
  const char *option = "-arch=compute_90a";
  std::string ptx;
  int result = nvrtc.createProgram(&program.handle, "__global__ void version() {}", "version.cu", 0,
                                   nullptr, nullptr);
  if (result == kNvrtcSuccess)
    result = nvrtc.compileProgram(program.handle, 1, &option);
  if (result == kNvrtcSuccess)
    result = program.read(ptx, nvrtc.ptxSize, nvrtc.ptx);
  if (result != kNvrtcSuccess) {
    std::string log;
    program.read(log, nvrtc.logSize, nvrtc.log);
    dropTerminator(log);
    std::replace(log.begin(), log.end(), '\n', ' ');
    return Error{fmt::format("NVRTC does not work: {}: {}", nvrtc.errorString(result), log)};
  }
  size_t begin = ptx.find(", V");
  size_t end = ptx.find('\n', begin);
  if (begin == std::string::npos || end == std::string::npos)
    return Error{"NVRTC: no version in the PTX it writes"};
  return ptx.substr(begin + 2, end - begin - 2);
}

CudaCompiler::CudaCompiler(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
CudaCompiler::CudaCompiler(CudaCompiler &&) noexcept = default;
CudaCompiler &CudaCompiler::operator=(CudaCompiler &&) noexcept = default;
CudaCompiler::~CudaCompiler() = default;

Result<CudaCompiler> CudaCompiler::load() {
  auto library = CudaLibrary::open(
      {"libnvrtc.so.13", "libnvrtc.so"}, "CALIBATT_NVRTC",
      "install a CUDA 13 toolkit or NVIDIA's wheel nvidia-cuda-nvrtc, or set CALIBATT_NVRTC to "
      "the library");
  if (!library)
    return library.takeError();
  library->preloadBeside("libnvrtc-builtins.so");
  auto impl = std::make_unique<Impl>();
  if (Status status = impl->nvrtc.resolve(*library); !status)
    return status.takeError();
  int major = 0, minor = 0;
  impl->nvrtc.version(&major, &minor);
  if (major < 13)
    return Error{fmt::format("NVRTC {}.{}: 13.0 or newer is wanted", major, minor)};
  impl->major = uint32_t(major);
  auto version = impl->buildVersion();
  if (!version)
    return version.takeError();
  impl->version = version.take();
  impl->file = library->file();
  for (const DeviceFile &file : deviceLibrary()) {
    impl->headerNames.push_back(file.name);
    impl->headerTexts.push_back(file.text);
  }
  return CudaCompiler(std::move(impl));
}

const std::string &CudaCompiler::version() const { return impl->version; }
uint32_t CudaCompiler::majorVersion() const { return impl->major; }
const std::string &CudaCompiler::file() const { return impl->file; }

std::vector<std::string> CudaCompiler::options(const TargetInfo &target) {
  // -lineinfo would put paths into the cubin, -Ofast-compile=max makes it ten
  // times as big. NVRTC's own cache would leave out the log.
  return {"-arch=" + target.name, "-std=c++20", "-default-device", "--ptxas-options=-v",
          "--no-cache"};
}

Result<CompiledKernel> CudaCompiler::compile(const std::string &source, const std::string &symbol,
                                             const TargetInfo &target,
                                             const std::atomic<bool> *cancel) const {
  const Nvrtc &nvrtc = impl->nvrtc;
  auto failed = [&](int result, const char *what) {
    return Error{fmt::format("{}: {}: {}", symbol, what, nvrtc.errorString(result))};
  };
  Program program(nvrtc);
  // The file name becomes part of internal symbols: it must be the same everywhere.
  int result = nvrtc.createProgram(&program.handle, source.c_str(), "kernel.cu",
                                   int(impl->headerNames.size()), impl->headerTexts.data(),
                                   impl->headerNames.data());
  if (result != kNvrtcSuccess)
    return failed(result, "NVRTC does not take the source");
  if (cancel)
    nvrtc.setFlowCallback(program.handle, isCancelled, const_cast<std::atomic<bool> *>(cancel));

  std::vector<std::string> given = options(target);
  std::vector<const char *> pointers;
  pointers.reserve(given.size());
  for (const std::string &option : given)
    pointers.push_back(option.c_str());
  result = nvrtc.compileProgram(program.handle, int(pointers.size()), pointers.data());
  std::string log;
  program.read(log, nvrtc.logSize, nvrtc.log);
  dropTerminator(log);
  if (cancel && cancel->load())
    return Error{symbol + ": cancelled"};
  if (result == kNvrtcCompilationFailed)
    return Error{fmt::format("{}: NVRTC {} refuses the kernel:\n{}", symbol, impl->version, log)};
  if (result != kNvrtcSuccess)
    return failed(result, "NVRTC failed");

  CompiledKernel kernel;
  result = program.read(kernel.cubin, nvrtc.cubinSize, nvrtc.cubin);
  if (result == kNvrtcSuccess)
    result = program.read(kernel.ptx, nvrtc.ptxSize, nvrtc.ptx);
  if (result != kNvrtcSuccess)
    return failed(result, "NVRTC gives no code");
  dropTerminator(kernel.ptx);
  auto report = parsePtxasLog(log, symbol);
  if (!report)
    return report.takeError();
  kernel.report = report.take();
  if (!kernel.report.serialised.empty())
    return Error{
        fmt::format("{}: wgmma serialised: {}", symbol, fmt::join(kernel.report.serialised, "\n"))};
  auto codeBytes = cubinCodeBytes(kernel.cubin, symbol);
  if (!codeBytes)
    return codeBytes.takeError();
  kernel.codeBytes = *codeBytes;
  return kernel;
}

} // namespace calibatt

#include "codegen/Fatbin.h"

#include "codegen/CudaToolkit.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

namespace calibatt {

namespace fs = std::filesystem;

namespace {

// The part of nvFatbin.h that is used here.
using NvFatbinHandle = struct NvFatbinState *;

struct NvFatbin {
  int (*create)(NvFatbinHandle *, const char **options, size_t count);
  int (*destroy)(NvFatbinHandle *);
  int (*addCubin)(NvFatbinHandle, const void *code, size_t size, const char *arch,
                  const char *identifier);
  int (*size)(NvFatbinHandle, size_t *);
  int (*get)(NvFatbinHandle, void *buffer);
  int (*version)(unsigned *major, unsigned *minor);
  const char *(*errorString)(int result);

  Status resolve(const CudaLibrary &library) {
    Status status;
    auto get = [&](const char *symbol, auto *&function) {
      if (status)
        status = library.resolve(symbol, function);
    };
    get("nvFatbinCreate", create);
    get("nvFatbinDestroy", destroy);
    get("nvFatbinAddCubin", addCubin);
    get("nvFatbinSize", size);
    get("nvFatbinGet", this->get);
    get("nvFatbinVersion", version);
    get("nvFatbinGetErrorString", errorString);
    return status;
  }
};

/// A folder only we can read, removed with what is in it.
class PrivateFolder {
public:
  static Result<PrivateFolder> create() {
    std::error_code error;
    fs::path base = fs::temp_directory_path(error);
    if (error)
      return Error{fmt::format("temporary folder: {}", error.message())};
    std::string pattern = base / "calibatt-XXXXXX";
    if (!mkdtemp(pattern.data()))
      return Error{fmt::format("{}: {}", pattern, std::strerror(errno))};
    PrivateFolder folder;
    folder.path = pattern;
    return folder;
  }
  PrivateFolder(PrivateFolder &&other) noexcept { path.swap(other.path); }
  PrivateFolder &operator=(PrivateFolder &&) = delete;
  ~PrivateFolder() {
    std::error_code ignored;
    if (!path.empty())
      fs::remove_all(path, ignored);
  }
  std::string file(const char *name) const { return (path / name).string(); }

private:
  PrivateFolder() = default;
  fs::path path;
};

Result<std::vector<uint8_t>> readFile(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    return Error{fmt::format("{}: {}", path, std::strerror(errno))};
  return std::vector<uint8_t>(std::istreambuf_iterator<char>(in), {});
}

/// Runs a program without a shell, stdout and stderr into `log`; its exit status.
Result<int> runProgram(const std::vector<std::string> &arguments, const std::string &log) {
  std::vector<char *> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string &argument : arguments)
    argv.push_back(const_cast<char *>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t pid = 0;
  int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error)
    return Error{fmt::format("{}: {}", arguments[0], std::strerror(error))};
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      return Error{fmt::format("{}: {}", arguments[0], std::strerror(errno))};
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string asText(const std::vector<uint8_t> &bytes) {
  std::string text(bytes.begin(), bytes.end());
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  return text;
}

} // namespace

struct FatbinWriter::Impl {
  NvFatbin library{}; ///< create is null where the program is used
  std::string file;   ///< of the library or the program
  std::string version;

  Result<std::vector<uint8_t>> writeWithLibrary(const std::vector<uint8_t> &cubin,
                                                const TargetInfo &target) const;
  Result<std::vector<uint8_t>> writeWithProgram(const std::vector<uint8_t> &cubin,
                                                const TargetInfo &target) const;
};

FatbinWriter::FatbinWriter(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
FatbinWriter::FatbinWriter(FatbinWriter &&) noexcept = default;
FatbinWriter &FatbinWriter::operator=(FatbinWriter &&) noexcept = default;
FatbinWriter::~FatbinWriter() = default;

const std::string &FatbinWriter::version() const { return impl->version; }
const std::string &FatbinWriter::file() const { return impl->file; }

Result<FatbinWriter> FatbinWriter::load() {
  if (auto library = fromLibrary())
    return library;
  auto program = fromProgram();
  if (!program)
    return Error{"no fatbin writer: neither libnvfatbin.so.13 nor the program fatbinary was found; "
                 "install a CUDA 13 toolkit or NVIDIA's wheel nvidia-nvfatbin"};
  return program;
}

Result<FatbinWriter> FatbinWriter::fromLibrary() {
  auto library = CudaLibrary::open({"libnvfatbin.so.13", "libnvfatbin.so"}, nullptr,
                                   "install a CUDA 13 toolkit or NVIDIA's wheel nvidia-nvfatbin");
  if (!library)
    return library.takeError();
  auto impl = std::make_unique<Impl>();
  if (Status status = impl->library.resolve(*library); !status)
    return status.takeError();
  unsigned major = 0, minor = 0;
  impl->library.version(&major, &minor);
  impl->file = library->file();
  impl->version = fmt::format("libnvfatbin {}.{}", major, minor);
  return FatbinWriter(std::move(impl));
}

Result<FatbinWriter> FatbinWriter::fromProgram() {
  auto program = findCudaProgram("fatbinary");
  if (!program)
    return Error{"fatbinary: not found in a CUDA toolkit nor on PATH"};
  auto folder = PrivateFolder::create();
  if (!folder)
    return folder.takeError();
  auto status = runProgram({*program, "--version"}, folder->file("log"));
  if (!status)
    return status.takeError();
  auto log = readFile(folder->file("log"));
  std::string text = log ? asText(*log) : "";
  // "Cuda compilation tools, release 13.0, V13.0.85"
  size_t begin = text.find(", V");
  if (*status != 0 || begin == std::string::npos)
    return Error{fmt::format("{} --version: exit status {}: {}", *program, *status, text)};
  auto impl = std::make_unique<Impl>();
  impl->file = *program;
  impl->version =
      "fatbinary " + text.substr(begin + 2, text.find_first_of(" \n", begin + 2) - begin - 2);
  return FatbinWriter(std::move(impl));
}

Result<std::vector<uint8_t>> FatbinWriter::write(const std::vector<uint8_t> &cubin,
                                                 const TargetInfo &target) const {
  return impl->library.create ? impl->writeWithLibrary(cubin, target)
                              : impl->writeWithProgram(cubin, target);
}

Result<std::vector<uint8_t>> FatbinWriter::Impl::writeWithLibrary(const std::vector<uint8_t> &cubin,
                                                                  const TargetInfo &target) const {
  NvFatbinHandle handle = nullptr;
  const char *options[] = {"-64", "-compress=false"};
  std::vector<uint8_t> fatbin;
  size_t size = 0;
  int result = library.create(&handle, options, std::size(options));
  if (result == 0)
    result =
        library.addCubin(handle, cubin.data(), cubin.size(), target.fatbinName.c_str(), "kernel");
  if (result == 0)
    result = library.size(handle, &size);
  if (result == 0) {
    fatbin.resize(size);
    result = library.get(handle, fatbin.data());
  }
  if (handle)
    library.destroy(&handle);
  if (result != 0) {
    const char *why = library.errorString(result);
    return Error{fmt::format("{}: {}", version, why ? why : "failed")};
  }
  return fatbin;
}

Result<std::vector<uint8_t>> FatbinWriter::Impl::writeWithProgram(const std::vector<uint8_t> &cubin,
                                                                  const TargetInfo &target) const {
  auto folder = PrivateFolder::create();
  if (!folder)
    return folder.takeError();
  std::string in = folder->file("kernel.cubin"), out = folder->file("kernel.fatbin");
  std::ofstream input(in, std::ios::binary);
  input.write(reinterpret_cast<const char *>(cubin.data()), std::streamsize(cubin.size()));
  input.close();
  if (!input)
    return Error{fmt::format("{}: cannot write {} bytes", in, cubin.size())};
  auto status = runProgram({file, "--create=" + out, "-64", "--compress=false",
                            fmt::format("--image3=kind=elf,sm={},file={}", target.fatbinName, in)},
                           folder->file("log"));
  if (!status)
    return status.takeError();
  if (*status != 0) {
    auto log = readFile(folder->file("log"));
    return Error{fmt::format("{}: exit status {}: {}", file, *status, log ? asText(*log) : "")};
  }
  return readFile(out);
}

} // namespace calibatt

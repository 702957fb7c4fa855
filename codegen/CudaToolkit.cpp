#include "codegen/CudaToolkit.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <fmt/format.h>
#include <link.h>
#include <unistd.h>

namespace calibatt {

namespace fs = std::filesystem;

static std::string environment(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

/// Toolkits in the order of preference.
static std::vector<std::string> toolkitFolders() {
  std::vector<std::string> folders;
  for (const std::string &folder :
       {environment("CUDA_HOME"), environment("CUDA_PATH"), std::string("/usr/local/cuda")})
    if (!folder.empty() && std::find(folders.begin(), folders.end(), folder) == folders.end())
      folders.push_back(folder);
  return folders;
}

/// The `nvidia` folders below which NVIDIA's wheels put lib and bin.
static std::vector<std::string> wheelRoots() {
  std::vector<std::string> roots;
  if (std::string given = environment("CALIBATT_CUDA_WHEELS"); !given.empty())
    roots.push_back(given);
  const auto given = std::ptrdiff_t(roots.size());
  if (std::string venv = environment("VIRTUAL_ENV"); !venv.empty()) {
    std::error_code ignored;
    for (const fs::directory_entry &entry : fs::directory_iterator(venv + "/lib", ignored))
      roots.push_back(entry.path() / "site-packages/nvidia");
  }
  // A folder is listed in any order.
  std::sort(roots.begin() + given, roots.end());
  return roots;
}

static std::vector<std::string> wheelSubfolders(const char *leaf) {
  std::vector<std::string> folders;
  for (const std::string &root : wheelRoots())
    for (const char *wheel : {"cu13", "cuda_nvrtc", "nvfatbin", "cuda_nvcc"}) {
      std::string folder = root + "/" + wheel + "/" + leaf;
      std::error_code ignored;
      if (fs::is_directory(folder, ignored))
        folders.push_back(folder);
    }
  return folders;
}

std::vector<std::string> cudaWheelFolders() { return wheelSubfolders("lib"); }

Result<CudaLibrary> CudaLibrary::open(const std::vector<std::string> &names, const char *override,
                                      const std::string &remedy) {
  CudaLibrary library;
  if (std::string given = override ? environment(override) : ""; !given.empty()) {
    library.path = given;
    library.handle = dlopen(given.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library.handle)
      return Error{fmt::format("${}: {}", override, dlerror())};
    return library;
  }

  std::vector<std::string> folders;
  for (const std::string &toolkit : toolkitFolders())
    for (const char *leaf : {"lib64", "lib"})
      folders.push_back(toolkit + "/" + leaf);
  for (std::string &folder : cudaWheelFolders())
    folders.push_back(std::move(folder));

  std::string broken;
  for (const std::string &name : names) {
    for (const std::string &folder : folders) {
      std::error_code ignored;
      std::string path = fs::path(folder) / name;
      if (!fs::exists(path, ignored))
        continue;
      library.path = path;
      library.handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library.handle)
        return library;
      if (broken.empty())
        broken = dlerror();
    }
    library.path = name;
    library.handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library.handle)
      return library;
  }
  if (!broken.empty())
    return Error{broken};
  return Error{fmt::format("{}: not found in {} nor on the loader's path; {}",
                           fmt::join(names, " or "), fmt::join(folders, ", "), remedy)};
}

void CudaLibrary::preloadBeside(const std::string &prefix) const {
  fs::path folder = fs::path(path).parent_path();
  if (folder.empty())
    return; // found by the loader, which finds the others too
  std::error_code ignored;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, ignored))
    if (entry.path().filename().string().starts_with(prefix))
      dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL);
}

std::string CudaLibrary::file() const {
  const link_map *map = nullptr;
  const bool known = dlinfo(handle, RTLD_DI_LINKMAP, static_cast<void *>(&map)) == 0;
  return known && map->l_name[0] ? map->l_name : path;
}

void *CudaLibrary::find(const char *symbol) const { return dlsym(handle, symbol); }

std::optional<std::string> findCudaProgram(const std::string &name) {
  std::vector<std::string> folders;
  for (const std::string &toolkit : toolkitFolders())
    folders.push_back(toolkit + "/bin");
  std::string path = environment("PATH");
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find(':', begin), path.size());
    if (end > begin)
      folders.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  for (std::string &folder : wheelSubfolders("bin"))
    folders.push_back(std::move(folder));
  for (const std::string &folder : folders) {
    std::string candidate = fs::path(folder) / name;
    std::error_code ignored;
    if (fs::is_regular_file(candidate, ignored) && access(candidate.c_str(), X_OK) == 0)
      return candidate;
  }
  return std::nullopt;
}

} // namespace calibatt

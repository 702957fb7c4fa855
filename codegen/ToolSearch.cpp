// Searches the usual places of a CUDA toolkit and of NVIDIA's Python wheels.
#include "codegen/ToolSearch.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <unistd.h>

namespace fs = std::filesystem;

namespace calibatt {

namespace {

std::string environment(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

/// Roots laid out as a toolkit: bin, lib or lib64.
std::vector<std::string> toolkitRoots() {
  std::vector<std::string> roots;
  for (const char *name : {"CUDA_HOME", "CUDA_PATH"})
    if (std::string root = environment(name); !root.empty())
      roots.push_back(root);
  roots.push_back("/usr/local/cuda");
  if (std::string wheels = environment("CALIBATT_CUDA_WHEELS"); !wheels.empty()) {
    // Each wheel is a folder with bin and lib; sorted, because folders are not listed in order.
    for (const std::string &base : {wheels, wheels + "/nvidia"}) {
      std::vector<std::string> found;
      std::error_code error;
      for (fs::directory_iterator it(base, error), end; !error && it != end; it.increment(error))
        if (it->is_directory(error))
          found.push_back(it->path().string());
      std::sort(found.begin(), found.end());
      roots.insert(roots.end(), found.begin(), found.end());
    }
  }
  return roots;
}

bool isProgram(const std::string &path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && access(path.c_str(), X_OK) == 0;
}

} // namespace

std::vector<std::string> cudaLibraryFolders() {
  std::vector<std::string> folders;
  for (const std::string &root : toolkitRoots()) {
    folders.push_back(root + "/lib64");
    folders.push_back(root + "/lib");
  }
  return folders;
}

std::vector<std::string> findCudaLibraries(const std::string &name) {
  std::vector<std::string> libraries;
  for (const std::string &folder : cudaLibraryFolders()) {
    std::error_code error;
    std::vector<std::string> here;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      std::string file = it->path().filename().string();
      if (file == name + ".so" || file.starts_with(name + ".so."))
        here.push_back(it->path().string());
    }
    // Descending: a version name before the plain one, the newest first.
    std::sort(here.rbegin(), here.rend());
    libraries.insert(libraries.end(), here.begin(), here.end());
  }
  return libraries;
}

std::string findCudaProgram(const std::string &name) {
  for (const std::string &root : toolkitRoots())
    if (std::string path = root + "/bin/" + name; isProgram(path))
      return path;
  std::string path = environment("PATH");
  for (size_t begin = 0; begin < path.size();) {
    size_t end = std::min(path.find(':', begin), path.size());
    std::string candidate = path.substr(begin, end - begin) + "/" + name;
    if (candidate.front() == '/' && isProgram(candidate))
      return candidate;
    begin = end + 1;
  }
  return {};
}

} // namespace calibatt

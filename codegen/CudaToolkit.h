// Finds the libraries and programs of a CUDA toolkit at run time: nothing of
// CUDA is linked, and the headers of the toolkit are not needed.
#pragma once

#include "runtime/format/Result.h"

#include <optional>
#include <string>
#include <vector>

namespace calibatt {

/// A library opened with dlopen. Never closed: NVRTC does not survive it.
class CudaLibrary {
public:
  /// Tries `override` (the name of an environment variable that holds a path),
  /// then each of `names` in: $CUDA_HOME, $CUDA_PATH, /usr/local/cuda (lib64 and
  /// lib), NVIDIA's wheels (cudaWheelFolders), the loader's own path. A set
  /// override that does not load is an error. An error says where it looked.
  static Result<CudaLibrary> open(const std::vector<std::string> &names, const char *override,
                                  const std::string &remedy);

  /// Sets a function pointer; fails where the library lacks the symbol.
  template <typename Function> Status resolve(const char *symbol, Function *&function) const {
    void *address = find(symbol);
    if (!address)
      return Error{path + ": no symbol " + symbol};
    function = reinterpret_cast<Function *>(address);
    return {};
  }
  void *find(const char *symbol) const;

  /// The file the loader took, whole path.
  std::string file() const;

  /// Loads the libraries of the same folder whose names start with `prefix`: for
  /// those the library opens by bare name when it needs them, which fails where
  /// the loader does not know the folder (NVIDIA's wheels).
  void preloadBeside(const std::string &prefix) const;

private:
  std::string path;
  void *handle = nullptr;
};

/// The lib folders of NVIDIA's wheels, below $CALIBATT_CUDA_WHEELS
/// (".../site-packages/nvidia") and the virtual environment that is active.
std::vector<std::string> cudaWheelFolders();

/// Full path of a toolkit's program ($CUDA_HOME, $CUDA_PATH, /usr/local/cuda,
/// PATH, the wheels), or nothing.
std::optional<std::string> findCudaProgram(const std::string &name);

} // namespace calibatt

// Where the CUDA libraries and programs the compiler uses may lie.
#pragma once

#include <string>
#include <vector>

namespace calibatt {

/// Folders of CUDA libraries, best first: $CUDA_HOME, $CUDA_PATH, /usr/local/cuda,
/// then the wheels below $CALIBATT_CUDA_WHEELS (a site-packages folder or its `nvidia`).
std::vector<std::string> cudaLibraryFolders();

/// The shared libraries of that folder list called `name`.so or `name`.so.N, best
/// first; only those that exist.
std::vector<std::string> findCudaLibraries(const std::string &name);

/// Path of a program of the toolkit or on PATH, or empty.
std::string findCudaProgram(const std::string &name);

} // namespace calibatt

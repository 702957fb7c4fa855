// What the tests of the formats share: fresh random content, scratch folders
// that clean up after themselves, and packages small enough to damage byte by byte.
#pragma once

#include "runtime/format/Package.h"
#include "runtime/format/ScheduleImage.h"

#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace calibatt::test {

/// A generator with a fresh seed, printed on failure by INFO(random.seed).
struct Random {
  uint64_t seed;
  std::mt19937_64 engine;
  Random();
  /// Uniform in [low, high].
  uint64_t integer(uint64_t low, uint64_t high);
  double real(double low, double high);
  std::vector<uint8_t> bytes(size_t count);
  std::string text(size_t count);
};

/// A new folder below the system's temporary folder, removed with what is in it.
class ScratchFolder {
public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder &) = delete;
  std::string file(const std::string &name) const { return (folder / name).string(); }
  std::string path() const { return folder.string(); }
  /// Names in the folder, sorted.
  std::vector<std::string> list() const;

private:
  std::filesystem::path folder;
};

std::vector<uint8_t> readBytes(const std::string &path);
void writeBytes(const std::string &path, std::span<const uint8_t> bytes);
/// Overwrites one byte of an existing file.
void patchByte(const std::string &path, size_t offset, uint8_t value);
/// A safetensors file from a header text and raw data.
std::vector<uint8_t> container(const std::string &header, std::span<const uint8_t> data);

/// Random rows, each with the diagonal block; density in (0, 1].
Schedule randomSchedule(Random &random, uint32_t tokens, uint32_t heads, double density);
/// The same with the last head repetitive: it computes anchor rows of `grid` only.
Schedule withAnchors(Schedule schedule, const AnchorGrid &grid);
uint64_t visitsOf(const Schedule &schedule);

/// What randomPackage() put into a writer, for comparison.
struct PackageContent {
  Manifest manifest;
  std::vector<CodeImage> codes;
  std::vector<std::vector<uint8_t>> datas;
  std::vector<std::vector<uint16_t>> orders;
  std::vector<KernelRecord> kernels;
  std::vector<uint32_t> routes; ///< [layers][heads][steps]
  std::vector<PackageSiteStats> stats;
  std::vector<std::string> ir;
  uint32_t dense = 0;
};
/// A package of one kernel a (layer, step), all in the forms runs and table,
/// and a dense one; `codeBytes` bytes of random code an image.
PackageContent randomContent(Random &random, size_t codeBytes);
/// Adds everything; the indices the writer gives are those of `content`.
PackageWriter fill(const PackageContent &content);

} // namespace calibatt::test

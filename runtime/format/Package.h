// The tables of a .calibatt package: what is in it, without the container.
// Written by the compiler, read by the runtime and the inspector.
#pragma once

#include "runtime/format/AnchorLayout.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Result.h"
#include "runtime/format/ScheduleLayout.h"
#include "runtime/format/StepInfo.h"
#include "runtime/format/TileOrder.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

class SafetensorsReader;

constexpr uint32_t kNone = 0xFFFFFFFFu;

struct CompressedItem;
struct StoredSchedule;

/// The problem every kernel of a package was compiled for.
struct Problem {
  std::string model;
  uint32_t frames = 0, height = 0, width = 0; ///< patch grid
  uint32_t tokens = 0, maxText = 0;
  uint32_t layers = 0, heads = 0, steps = 0, headDim = 0;
  uint32_t block = 128;
  double scale = 0;           ///< softmax scale
  std::string dtype = "bf16"; ///< q, k, v, o

  uint32_t blocks() const { return (tokens + block - 1) / block; }
};

/// The pass that lets steps share the union of their masks; its bound is the least
/// intersection over union of two masks of a group, more than 0, at most 1.
constexpr const char *kShareStepsPass = "share-steps";

/// A compiler pass that may add blocks to the profile's masks and never drops one.
struct SupersetPass {
  std::string name; ///< as the compiler's pass is called
  double bound = 0; ///< what the user asked for, in the pass's own unit
  bool operator==(const SupersetPass &) const = default;
};

/// How the profile told repetitive heads from others.
struct RepetitionRule {
  double gamma = 2;     ///< a site is repetitive where its score (at most 1) is at least this
  uint32_t anchors = 5; ///< anchor rows a frame, 1 to 64
};

/// A part of a package: its layers, the dense kernel, and what only merging needs. Packages that
/// are whole have none.
struct Shard {
  uint32_t index = 0, count = 0;                 ///< 1 to count
  std::vector<uint32_t> layers;                  ///< ascending; the others have no kernels here
  std::string options;                           ///< of the compile, those that shape the package
  std::vector<std::vector<std::string>> remarks; ///< of each of `layers`
};

/// The JSON manifest (README.md of this folder).
struct Manifest {
  Problem problem;
  std::string granularity = "step"; ///< "step" or "head"
  std::vector<std::string> archs;   ///< {"sm_90a"}
  std::string profileDigest;        ///< SHA-256 of the profile
  /// The schedule that the masks were measured on, one entry a step of the problem; empty where
  /// nobody knows it (some packages of version 2, and those of a shape alone).
  std::vector<StepInfo> steps;
  RepetitionRule repetition;
  std::vector<SupersetPass> supersetPasses; ///< none: the masks are exactly the profile's
  std::string toolchain;                    ///< compiler versions, one line
  std::string toolchainDigest;              ///< SHA-256 of everything that shapes the code
  uint32_t minDriver = 13000;               ///< CUDA driver API version the images need
  std::vector<std::string>
      remarks; ///< what the compile had to say (repetitive heads as dense, spills)
  std::optional<Shard> shard;
};

/// One compiled __global__, shared by every kernel record that names it.
struct CodeImage {
  std::string symbol; ///< entry name
  Form form = Form::Runs;
  std::string arch;            ///< "sm_90a"
  std::vector<uint8_t> fatbin; ///< uncompressed fatbin
  std::string cuda;            ///< the emitted translation unit
  std::string ptx;             ///< may be empty
  uint32_t registers = 0, spillStores = 0, spillLoads = 0;
  uint32_t staticSmem = 0, dynamicSmem = 0, codeBytes = 0;
  bool persistent = false;  ///< CTAs walk lists of tiles: LaunchParams::work_begin
  float compileSeconds = 0; ///< not stored: clock values never enter a package
};

/// One kernel: code, its schedule, and the sites it serves.
struct KernelRecord {
  uint32_t code = kNone;  ///< index of a CodeImage
  uint32_t data = kNone;  ///< index of a data image (Runs, Table), or kNone
  uint32_t order = kNone; ///< index of a tile order, or kNone where a rule gives it
  TileOrder orderRule = TileOrder::Stored;
  uint32_t layer = kNone, step = kNone; ///< kNone for the dense fallback kernel
  uint32_t headBase = 0, heads = 0;     ///< heads it covers, consecutive
  uint64_t visits = 0;                  ///< key-block visits of one batch entry
  float predictedMicros = 0;            ///< the cost model's run time of one launch
  std::string reason;                   ///< why this form was chosen
};

/// Per-site scalars carried over from the profile.
struct PackageSiteStats {
  float keptMass = 1, density = 1, repetition = 0;
};

/// Collects a package; write() makes the file (temporary + rename).
/// Images are deduplicated by content; equal input gives equal bytes.
class PackageWriter {
public:
  explicit PackageWriter(Manifest manifest);
  ~PackageWriter();
  PackageWriter(PackageWriter &&) noexcept;

  uint32_t addCode(const CodeImage &image);
  /// Stored whole. Compiles use addSchedules().
  uint32_t addData(const std::vector<uint8_t> &image);
  /// The data images of a layer, from ScheduleEncoder; returns their indices. An image that is
  /// there already is not added again, unless it takes more decoding.
  std::vector<uint32_t> addSchedules(std::vector<StoredSchedule> schedules);
  /// Tile order: schedule rows (head * query_blocks + row, head relative to
  /// headBase), each exactly once, in launch order.
  uint32_t addOrder(const std::vector<uint16_t> &order);
  uint32_t addKernel(const KernelRecord &record);
  /// The kernel of a site. With step granularity all heads name one kernel.
  void setRoute(uint32_t layer, uint32_t head, uint32_t step, uint32_t kernel);
  void setStats(uint32_t layer, uint32_t head, uint32_t step, PackageSiteStats stats);
  void setDenseKernel(uint32_t kernel);
  /// IR text of a layer, shown by `inspect show --ir`.
  void setIr(uint32_t layer, const std::string &text);
  void setIr(uint32_t layer, CompressedItem text);
  /// Of a layer, or of the whole compile where there is none; in a shard, one of its own.
  void addRemark(const std::string &remark, uint32_t layer = kNone);
  /// Bytes of the schedules, orders and texts so far, as they will be in the file.
  uint64_t storedBytes() const;
  uint32_t dataCount() const;
  /// Fails by name where a route is missing, an index is out of range or the disk is full.
  Status write(const std::string &path,
               const std::function<Status(uint64_t bytes)> &beforeRename = {}) const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

/// A package opened from disk; every table is bounds-checked by
/// open(), every chunk's hash when it is read. Immutable, safe from several threads.
class PackageReader {
public:
  /// A whole package; a shard is refused by name.
  static Result<PackageReader> open(const std::string &path);
  /// A shard; a whole package is refused by name. Sites of other layers have no route.
  static Result<PackageReader> openShard(const std::string &path);
  /// Whichever of both it is.
  static Result<PackageReader> openAny(const std::string &path);
  /// The same as open() of bytes in memory, which have to outlive the reader; path() is then
  /// `name`.
  static Result<PackageReader> openBytes(const std::string &name, std::span<const uint8_t> bytes);
  PackageReader(PackageReader &&) noexcept;
  PackageReader &operator=(PackageReader &&) noexcept;
  ~PackageReader();

  const std::string &path() const;
  const Manifest &manifest() const;
  uint32_t codeCount() const;
  uint32_t dataCount() const;
  uint32_t orderCount() const;
  uint32_t kernelCount() const;

  /// Without fatbin, cuda and ptx (those are read by the calls below).
  const CodeImage &codeInfo(uint32_t code) const;
  Result<std::vector<uint8_t>> fatbin(uint32_t code) const;
  Result<std::string> cuda(uint32_t code) const;
  Result<std::string> ptx(uint32_t code) const;
  /// The grid of the repetitive heads that a code image was compiled for, from its CUDA text, which
  /// is read once; all zero where it has none.
  Result<AnchorGrid> compiledGrid(uint32_t code) const;
  /// The data image, made again from what is stored; ScheduleDecoder is quicker for several.
  Result<std::vector<uint8_t>> data(uint32_t data) const;
  uint64_t dataBytes(uint32_t data) const; ///< of the image
  Xxh128Digest imageHash(uint32_t data) const;
  /// What is stored of an image (ScheduleCodec.h), and the one it is the difference from: of a
  /// lower number, or kNone.
  Result<std::vector<uint8_t>> storedSchedule(uint32_t data) const;
  uint32_t scheduleReference(uint32_t data) const;
  /// A stored order.
  Result<std::vector<uint16_t>> order(uint32_t order) const;
  /// The launch order of a kernel: stored, or from its rule and `image`, its data image.
  Result<std::vector<uint16_t>> tileOrder(uint32_t kernel, std::span<const uint8_t> image) const;
  const KernelRecord &kernel(uint32_t kernel) const;
  /// Kernel of a site; the indices must be inside the problem.
  uint32_t route(uint32_t layer, uint32_t head, uint32_t step) const;
  PackageSiteStats stats(uint32_t layer, uint32_t head, uint32_t step) const;
  /// As the profile had it.
  bool isRepetitive(uint32_t layer, uint32_t head, uint32_t step) const;
  uint32_t denseKernel() const;
  Result<std::string> ir(uint32_t layer) const;

  /// A chunk of a pool whose stored bytes are not those that were written.
  struct DamagedChunk {
    std::string tensor;
    uint64_t chunk = 0;
    std::string message; ///< with the file and both
  };
  /// Compares every chunk with its hash, and decodes none.
  std::vector<DamagedChunk> damagedChunks() const;
  uint64_t chunkCount() const;
  uint64_t tensorCount() const;

  /// One row of the size breakdown of `inspect info`.
  struct Section {
    std::string name;
    uint64_t bytes = 0;    ///< in the file
    uint64_t rawBytes = 0; ///< decoded
    uint64_t count = 0;
  };
  std::vector<Section> sections() const;
  uint64_t fileBytes() const;

private:
  struct Impl;
  /// Nothing for `shard`: whether it is one does not matter.
  static Result<PackageReader> load(Result<SafetensorsReader> file, std::optional<bool> shard);
  explicit PackageReader(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

// A calibration profile in memory: what README.md of this folder describes,
// without the container.
#pragma once

#include "calib_profiles/BlockMask.h"
#include "runtime/format/Result.h"
#include "runtime/format/StepInfo.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace calibatt {

/// Patch grid of the video tokens, in raster order (frame, row, column).
struct Grid {
  uint32_t frames = 0, height = 0, width = 0;
  uint64_t tokens() const { return uint64_t(frames) * height * width; }
  bool operator==(const Grid &) const = default;
};

/// How the masks were selected (method.md's names).
struct Criterion {
  double a = 0, c = 0, k = 0; ///< eps(t) = a + (c - a) * exp(-k t / steps)
  double rho = 0.5;           ///< keep a block where count >= rho * prompts
  double gamma = 0.87;        ///< repetitive where the score >= gamma
  uint32_t anchors = 5;       ///< anchor rows per frame
  double hysteresis = 0;      ///< half the width of the band around rho; 0: off (Denoising.h)
  double singletons = 0;      ///< least mean energy of an isolated block, in 1 / blocks; 0: off
};

/// Everything of a profile that is not per site.
struct ProfileHeader {
  std::string model;
  Grid grid;
  uint32_t layers = 0, heads = 0, headDim = 0;
  std::vector<StepInfo> steps; ///< size = number of steps
  uint32_t blockSize = 128;
  uint32_t maxText = 0; ///< joint text tokens after the video, 0: none
  double scale = 0;     ///< softmax scale
  std::string dtype = "bf16";
  Criterion criterion;
  uint32_t prompts = 0;
  std::string promptsHash;
  uint64_t seed = 0;
  std::string tool; ///< program and version that wrote the file

  uint64_t tokens() const { return grid.tokens() + maxText; }
  uint32_t blocks() const { return uint32_t((tokens() + blockSize - 1) / blockSize); }
  uint32_t stepCount() const { return uint32_t(steps.size()); }
};

/// Per-site scalars.
struct SiteStats {
  float keptMass = 1;   ///< mean attention mass of the kept blocks, 0..1
  float density = 1;    ///< kept blocks / all blocks
  float repetition = 0; ///< s of method.md; the site is repetitive where it is >= gamma
  float rowMax = 0;     ///< largest scaled logit seen, nats; 0: not known
};

/// All steps of one (layer, head).
struct HeadProfile {
  std::vector<BlockMask> masks; ///< distinct masks
  std::vector<uint32_t>
      stepMask;                 ///< [steps] index into masks; a repetitive site has its dense mask
  std::vector<SiteStats> stats; ///< [steps]
};

/// Reads a profile; memory-maps it and decodes one (layer, head) at a time.
class ProfileReader {
public:
  static Result<ProfileReader> open(const std::string &path);
  ProfileReader(ProfileReader &&) noexcept;
  ProfileReader &operator=(ProfileReader &&) noexcept;
  ~ProfileReader();

  const ProfileHeader &header() const;
  const std::string &path() const;
  /// SHA-256 of the file's bytes, lower-case hex.
  Result<std::string> digest() const;
  /// SHA-256 of what the file has of one layer, masks as they are stored and all statistics but
  /// row maxima; the same where neither changed.
  Result<std::string> layerDigest(uint32_t layer) const;
  SiteStats stats(uint32_t layer, uint32_t head, uint32_t step) const;
  bool isRepetitive(uint32_t layer, uint32_t head, uint32_t step) const;
  /// Its stored bytes are compared with their hash; everything else was by open(). Safe from
  /// several threads.
  Result<HeadProfile> head(uint32_t layer, uint32_t head) const;

private:
  struct Impl;
  explicit ProfileReader(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

/// Writes a profile head by head (layer-major order), to a temporary file
/// renamed by finish(); destroyed without finish() nothing stays behind.
class ProfileWriter {
public:
  static Result<ProfileWriter> create(const std::string &path, const ProfileHeader &header);
  ProfileWriter(ProfileWriter &&) noexcept;
  ~ProfileWriter();

  /// The next (layer, head); equal masks among its steps are stored once.
  Status append(const HeadProfile &head);
  Status finish();

private:
  struct Impl;
  explicit ProfileWriter(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

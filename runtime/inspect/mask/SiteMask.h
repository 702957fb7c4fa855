// A site's mask ready to be drawn, whether it came from a profile or from the
// schedule of a package's kernel.
#pragma once

#include "runtime/inspect/Site.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// What the rows and columns of a mask stand for.
struct VideoShape {
  std::string model;
  uint32_t frames = 0, height = 0, width = 0; ///< patch grid
  uint32_t maxText = 0;                       ///< joint text tokens after the video
  uint32_t block = 128;                       ///< tokens

  uint64_t tokens() const { return uint64_t(frames) * height * width + maxText; }
  uint32_t blocks() const { return uint32_t((tokens() + block - 1) / block); }
  /// Frames to mark; none where they hold no tokens, as a file may claim.
  uint32_t frameCount() const { return height && width ? frames : 0; }
  /// Where frame `frame` begins, in blocks; frameCount() for the end of the video.
  double frameStart(uint32_t frame) const {
    return double(uint64_t(frame) * height * width) / block;
  }
};

struct SiteMask {
  Site site;
  uint32_t blocks = 0;
  std::vector<uint8_t> kept; ///< [blocks, blocks] query by key, 1 where computed
  float keptMass = 1, repetition = 0;
  bool repetitive = false;
  /// Rows of every frame that are computed, the others being copies, and the query tiles that they
  /// are packed into; empty and 0 where all rows are computed.
  std::vector<uint32_t> anchorRows;
  uint32_t tiles = 0;
  std::string form; ///< of the kernel; empty where the mask is a profile's

  bool at(uint32_t query, uint32_t key) const { return kept[size_t(query) * blocks + key]; }
  /// Share of all blocks that is kept.
  double density() const;
  /// Visits over those of dense attention.
  double computed() const { return tiles ? double(tiles) / blocks : density(); }
};

} // namespace calibatt

// The block energies of one query tile on the CPU: the sums of weights that each visit leaves, put
// together when the row's own sum is known.
#pragma once

#include "runtime/host/HostExecutor.h"
#include "runtime/host/TileKernel.h"

#include <vector>

namespace calibatt {

class TileEnergies {
public:
  TileEnergies(const HostEnergies &energies, const Schedule &schedule, int headDim);
  /// After the visit of key block `column`, of which `keys` keys are valid.
  void record(const TileState &state, uint32_t column, int keys);
  /// After the last visit: stores the tile's row of energies, and its row maxima.
  void finish(const TileState &state, const HostTile &tile, int rows) const;

private:
  const HostEnergies &out;
  const Schedule &schedule;
  const int headDim;
  std::vector<double> logs; ///< [blocks, 128] log2 of each row's sum of weights
};

} // namespace calibatt

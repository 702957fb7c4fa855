// The block energies of one query tile on the CPU: the sums of weights that each visit leaves, put
// together when the row's own sum is known.
#pragma once

#include "runtime/host/HostExecutor.h"
#include "runtime/host/TileKernel.h"

#include <span>

namespace calibatt {

class TileEnergies {
public:
  /// `logs` is memory for [blocks, 128].
  TileEnergies(const HostEnergies &energies, const Schedule &schedule, int headDim,
               std::span<double> logs)
      : out(energies), schedule(schedule), headDim(headDim), logs(logs) {}
  /// After the visit of key block `column`, of which `keys` keys are valid.
  void record(const TileState &state, uint32_t column, int keys);
  /// After the last visit: stores the tile's row of energies, and its row maxima.
  void finish(const TileState &state, const HostTile &tile, int rows) const;

private:
  const HostEnergies &out;
  const Schedule &schedule;
  const int headDim;
  const std::span<double> logs; ///< [blocks, 128] log2 of each row's sum of weights
};

} // namespace calibatt

// How alike the attention of the spatial rows of each head is, on the CPU, from log-sum-exps as the
// kernels find it (codegen/device/repetition.cuh).
#pragma once

#include "runtime/format/AnchorLayout.h"
#include "runtime/host/HostExecutor.h"

namespace calibatt {

/// The score of each head of a dense launch, [batch, heads]; `tokens` are whole frames of the grid.
Status scoreRepetition(const HostLaunch &launch, const AnchorGrid &grid, uint32_t batch,
                       uint32_t heads, uint32_t threads, float *scores);

} // namespace calibatt

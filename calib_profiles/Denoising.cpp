// Hysteresis over steps, and dropping isolated blocks.
#include "calib_profiles/Denoising.h"
#include "calib_profiles/EnergyUnits.h"

#include <cassert>

namespace calibatt {

BlockMask hysteresisMask(const SiteCounts &site, double rho, double band, const BlockMask &before) {
  assert(before.rows() == site.blocks && before.cols() == site.blocks);
  const uint32_t surely = site.threshold(rho + band), perhaps = site.threshold(rho - band);
  BlockMask mask(site.blocks, site.blocks);
  for (uint32_t r = 0; r < site.blocks; ++r)
    for (uint32_t c = 0; c < site.blocks; ++c) {
      const uint8_t count = site.counts[size_t(r) * site.blocks + c];
      mask.set(r, c, count >= surely || (count >= perhaps && before.get(r, c)));
    }
  site.keepAlways(mask);
  return mask;
}

BlockMask withoutSingletons(const SiteCounts &site, const BlockMask &mask, double bound) {
  const uint32_t blocks = site.blocks;
  const double least = bound * double(site.prompts) * kEnergyOne / blocks;
  BlockMask result = mask;
  for (uint32_t r = 0; r < blocks; ++r)
    for (uint16_t c : mask.keptColumns(r)) {
      if (site.energySums[size_t(r) * blocks + c] >= least)
        continue;
      uint32_t around = 0;
      for (uint32_t y = r ? r - 1 : 0; y <= r + 1 && y < blocks; ++y)
        for (uint32_t x = c ? c - 1u : 0; x <= c + 1u && x < blocks; ++x)
          around += mask.get(y, x);
      if (around == 1) // itself
        result.set(r, c, false);
    }
  site.keepAlways(result);
  return result;
}

} // namespace calibatt

// The cover kernel, executed on the model of the device: its bits are those of the
// definition in calib_profiles, whatever the energies.
#include "CalibrationSamples.h"
#include "Emulator.h"
#include "calib_profiles/Selection.h"

#include <doctest/doctest.h>
#include <random>

using namespace calibatt;
using namespace calibatt::test;

extern void (*const kCalibrationEntries[])();

namespace {

/// One row of energies of a kind that is hard to cut.
std::vector<float> energyRow(std::mt19937_64 &random, uint32_t blocks, int kind) {
  std::vector<float> row(blocks);
  std::uniform_real_distribution<float> uniform;
  for (float &e : row) {
    switch (kind) {
    case 0: // spread over many octaves
      e = std::exp2(-60 * uniform(random));
      break;
    case 1: // nothing but ties
      e = 1.0f / 64;
      break;
    case 2: // few values, many ties and zeros
      e = float(random() % 4) / 1024;
      break;
    default: // nearly equal
      e = (1 + uniform(random) * 1e-5f) / float(blocks);
    }
  }
  if (kind == 4) // one block has it all, the rest underflows
    for (uint32_t c = 0; c < blocks; ++c)
      row[c] = c == blocks / 2 ? 1.0f : std::ldexp(1.0f, -int(random() % 150));
  return row;
}

} // namespace

TEST_CASE("covers on the device are the minimum covers of the definition, bit by bit") {
  const auto samples = calibrationSamples();
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].kernel != CalibrationKernel::Cover)
      continue;
    const uint32_t blocks = uint32_t(blockCount(samples[i].spec)), rows = 26;
    const size_t rowBytes = (blocks + 7) / 8;
    for (double epsilon : {0.842, 0.99, 0.0, 1.0}) {
      const uint64_t seed = std::random_device{}();
      CAPTURE(blocks);
      CAPTURE(epsilon);
      CAPTURE(seed);
      std::mt19937_64 random(seed);
      std::vector<float> energies;
      for (uint32_t row = 0; row < rows; ++row)
        for (float e : energyRow(random, blocks, int(row % 5)))
          energies.push_back(e);
      std::vector<uint8_t> cover(rows * rowBytes + 1, 0xA5);
      CoverParams params{energies.data(), cover.data(), rows, epsilon};
      auto kernel = reinterpret_cast<void (*)(CoverParams)>(kCalibrationEntries[i]);
      emulator::launch(2, seed, [&] { kernel(params); });
      for (uint32_t row = 0; row < rows; ++row) {
        const std::span<const float> of(energies.data() + size_t(row) * blocks, blocks);
        const RowCover want = minimumCover(of, epsilon);
        uint32_t differences = 0;
        for (uint32_t c = 0; c < blocks; ++c)
          differences += (cover[row * rowBytes + c / 8] >> (c % 8) & 1) != want.keeps(of[c], c);
        CAPTURE(row);
        CHECK(differences == 0);
      }
      CHECK(cover.back() == 0xA5);
    }
  }
}

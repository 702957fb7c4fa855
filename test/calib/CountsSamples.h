// Small counts of random prompts.
#pragma once

#include "calib_profiles/CountsAccumulator.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace calibatt::test {

/// 2 layers x 2 heads x 3 steps (two modules) of 420 tokens: 4 blocks, a tail of 36.
inline ProfileHeader sampleCountsHeader(uint32_t maxText) {
  ProfileHeader header;
  header.model = "sample";
  header.grid = {3, 7, 20};
  header.layers = 2;
  header.heads = 2;
  header.headDim = 64;
  header.steps = {{900, 0.9, "high"}, {500, 0.5, "low"}, {1, 0.1, "low"}};
  header.maxText = maxText;
  header.scale = 0.125;
  header.criterion = {0.763, 0.863, 5.64, 0.5, 0.87, 5};
  header.tool = "a test";
  return header;
}

/// [B, B], rows that sum to 1.
inline std::vector<float> randomEnergies(uint32_t blocks, std::mt19937_64 &random) {
  std::vector<float> energies(size_t(blocks) * blocks);
  std::normal_distribution<double> normal(0, 2);
  for (uint32_t r = 0; r < blocks; ++r) {
    double sum = 0;
    std::vector<double> row(blocks);
    for (double &e : row)
      sum += e = std::exp(normal(random));
    for (uint32_t c = 0; c < blocks; ++c)
      energies[size_t(r) * blocks + c] = float(row[c] / sum);
  }
  return energies;
}

/// Begins a prompt and adds all its sites.
inline Status addRandomPrompt(CountsAccumulator &counts, const std::string &id,
                              std::mt19937_64 &random) {
  if (Status s = counts.begin(id); !s)
    return s;
  const ProfileHeader &h = counts.counts().header();
  for (uint64_t site = 0; site < counts.counts().layout().sites; ++site) {
    const std::vector<float> energies = randomEnergies(h.blocks(), random);
    SiteMeasurement measured;
    measured.energies = energies;
    measured.repetition = std::uniform_real_distribution<double>(-0.2, 1)(random);
    measured.rowMax = float(std::uniform_real_distribution<double>(-5, 50)(random));
    if (Status s = counts.check(site, measured); !s)
      return s;
    if (Status s = counts.add(site, measured); !s)
      return s;
  }
  return {};
}

inline Result<CountsAccumulator> openCounts(const std::string &path, const ProfileHeader &header,
                                            bool create) {
  Result<CountsLock> lock = CountsLock::forWriting(path);
  if (!lock)
    return lock.takeError();
  if (create)
    if (Status s = CountsAccumulator::createFile(path, header); !s)
      return s.takeError();
  return CountsAccumulator::open(path, lock.take());
}

/// Counts of random prompts with these ids.
inline Status writeSampleCounts(const std::string &path, const ProfileHeader &header,
                                const std::vector<std::string> &ids, std::mt19937_64 &random) {
  Result<CountsAccumulator> counts = openCounts(path, header, true);
  if (!counts)
    return counts.takeError();
  for (const std::string &id : ids) {
    if (Status s = addRandomPrompt(*counts, id, random); !s)
      return s;
    if (Status s = counts->commit(); !s)
      return s;
  }
  return {};
}

/// Counts without prompts, and beside them the whole record of one.
inline Status writeSampleRecord(const std::string &path, const ProfileHeader &header,
                                const std::string &id, std::mt19937_64 &random) {
  if (Status s = CountsAccumulator::createFile(path, header); !s)
    return s;
  Result<CountsReader> counts = CountsReader::open(path);
  if (!counts)
    return counts.takeError();
  Result<PromptWriter> writer = PromptWriter::create(*counts, id);
  if (!writer)
    return writer.takeError();
  const uint32_t blocks = counts->layout().blocks;
  for (uint64_t site = 0; site < counts->layout().sites; ++site) {
    std::vector<uint16_t> values(size_t(blocks) * blocks);
    SiteScalars scalars;
    for (uint16_t &v : values) {
      v = uint16_t((random() % 20000) | (random() % 2 ? kKeptBit : 0));
      scalars.kept += v >> 15;
    }
    scalars.repetition = int64_t(random() >> 33);
    scalars.rowMax = float(random() % 100);
    if (Status s = writer->add(site, scalars, values); !s)
      return s;
  }
  return writer->commit();
}

} // namespace calibatt::test

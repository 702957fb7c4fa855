// Block masks and the sharing of masks between steps.
#include "calib_profiles/StepSharing.h"
#include "test/calib/RandomInputs.h"

#include <doctest/doctest.h>

using namespace calibatt;
using namespace calibatt::test;

TEST_CASE("counts, runs and columns of a mask agree with looking at every bit") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (uint32_t blocks : {1u, 2u, 5u, 8u, 63u, 64u, 65u, 130u, 256u, 591u}) {
    const BlockMask mask = randomMask(blocks, 0.6, random);
    uint64_t kept = 0, runs = 0;
    for (uint32_t r = 0; r < blocks; ++r) {
      std::vector<uint16_t> columns;
      for (uint32_t c = 0; c < blocks; ++c) {
        if (!mask.get(r, c))
          continue;
        columns.push_back(uint16_t(c));
        runs += c == 0 || !mask.get(r, c - 1);
      }
      CHECK(mask.count(r) == columns.size());
      CHECK(mask.keptColumns(r) == columns);
      kept += columns.size();
    }
    CHECK(mask.count() == kept);
    CHECK(mask.runs() == runs);
    CHECK(mask.density() == doctest::Approx(double(kept) / blocks / blocks));
  }
}

TEST_CASE("a dense mask has every block and no bit beyond the grid") {
  for (uint32_t blocks : {1u, 7u, 8u, 9u, 65u}) {
    const BlockMask mask = BlockMask::dense(blocks, blocks);
    CHECK(mask.count() == uint64_t(blocks) * blocks);
    CHECK(mask.runs() == blocks);
    CHECK(mask.keptColumns(blocks - 1).back() == blocks - 1);
  }
}

TEST_CASE("intersection over union and merge agree with looking at every bit") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (uint32_t blocks : {3u, 70u, 256u}) {
    const BlockMask a = randomMask(blocks, 0.3, random), b = randomMask(blocks, 0.5, random);
    double both = 0, either = 0;
    BlockMask merged = a;
    merged.merge(b);
    for (uint32_t r = 0; r < blocks; ++r)
      for (uint32_t c = 0; c < blocks; ++c) {
        both += a.get(r, c) && b.get(r, c);
        either += a.get(r, c) || b.get(r, c);
        CHECK(merged.get(r, c) == (a.get(r, c) || b.get(r, c)));
      }
    CHECK(intersectionOverUnion(a, b) == doctest::Approx(both / either));
  }
  CHECK(intersectionOverUnion(BlockMask(4, 4), BlockMask(4, 4)) == 1);
}

TEST_CASE("shared masks are the union of steps that all resemble each other") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  // Steps drift block by block, so that the first and last of a group differ most.
  std::vector<BlockMask> steps = {randomMask(20, 0.4, random)};
  for (int i = 0; i < 30; ++i) {
    BlockMask next = steps.back();
    for (int flip = 0; flip < 3; ++flip)
      next.set(random() % 20, random() % 20, random() % 2);
    steps.push_back(next);
  }
  std::vector<const BlockMask *> pointers;
  for (const BlockMask &mask : steps)
    pointers.push_back(&mask);
  for (double tau : {0.9, 0.97, 1.0}) {
    const StepGroups groups = shareSteps(pointers, tau);
    REQUIRE(groups.stepGroup.size() == steps.size());
    for (size_t g = 0; g < groups.masks.size(); ++g) {
      BlockMask merged(20, 20);
      for (size_t i = 0; i < steps.size(); ++i) {
        if (groups.stepGroup[i] != g)
          continue;
        merged.merge(steps[i]);
        for (size_t j = 0; j < steps.size(); ++j)
          if (groups.stepGroup[j] == g)
            CHECK(intersectionOverUnion(steps[i], steps[j]) >= tau);
      }
      CHECK(groups.masks[g] == merged);
    }
    for (size_t i = 0; i < steps.size(); ++i) {
      // Step by step outwards, each side up to the first that resembles it too little.
      BlockMask most = steps[i];
      for (int side : {-1, 1})
        for (size_t j = i + size_t(side); j < steps.size(); j += size_t(side)) {
          if (intersectionOverUnion(steps[i], steps[j]) < tau)
            break;
          most.merge(steps[j]);
        }
      CHECK(shareableUnion(pointers, i, tau) == most);
      BlockMask withShared = most;
      withShared.merge(groups.masks[groups.stepGroup[i]]);
      CHECK(withShared == most);
    }
    // Greedy: the step after a group resembles one of its members too little.
    for (size_t i = 1; i < steps.size(); ++i) {
      if (groups.stepGroup[i] == groups.stepGroup[i - 1])
        continue;
      bool fits = true;
      for (size_t j = 0; j < i; ++j)
        if (groups.stepGroup[j] == groups.stepGroup[i - 1])
          fits = fits && intersectionOverUnion(steps[i], steps[j]) >= tau;
      CHECK_FALSE(fits);
    }
  }
}

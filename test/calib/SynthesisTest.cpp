// Synthetic profiles: the statistics of the paper, and that parts are parts of the whole.
#include "calib_profiles/Synthesis.h"
#include "calib_profiles/ProfileSummary.h"

#include <doctest/doctest.h>

using namespace calibatt;

namespace {

Synthesis synthesise(const std::string &preset, uint32_t layers, uint32_t heads, uint32_t steps,
                     uint64_t seed = 0) {
  Result<Synthesis> synthesis = Synthesis::create({preset, layers, heads, steps, seed});
  REQUIRE(synthesis);
  return synthesis.take();
}

} // namespace

TEST_CASE("densities, runs and kept mass of every preset are near the paper's") {
  struct Wanted {
    const char *preset;
    uint32_t layers, heads, steps;
    double work, runsLow, runsHigh;
  };
  // Steps are spread over the schedule, as --steps does, so the mean is the whole's.
  for (const Wanted &w : {Wanted{"wan2.1-1.3b-480p", 5, 12, 3, 0.32, 10, 20},
                          Wanted{"wan2.1-14b-480p", 2, 40, 3, 0.32, 10, 20},
                          Wanted{"wan2.1-14b-720p", 1, 40, 2, 0.375, 18, 25}}) {
    CAPTURE(w.preset);
    const Synthesis s = synthesise(w.preset, w.layers, w.heads, w.steps);
    ProfileSummariser summariser(s.header());
    for (uint32_t layer = 0; layer < w.layers; ++layer)
      for (uint32_t head = 0; head < w.heads; ++head)
        summariser.add(layer, s.head(layer, head));
    const ProfileSummary summary = summariser.finish();
    CHECK(summary.all.computed == doctest::Approx(w.work).epsilon(0.12));
    CHECK(summary.all.runsPerRow > w.runsLow);
    CHECK(summary.all.runsPerRow < w.runsHigh);
    const double late = s.header().criterion.a;
    CHECK(summary.late.keptMass > late - 0.01);
    CHECK(summary.late.keptMass < late + 0.03);
  }
}

TEST_CASE("masks of neighbouring steps differ early and settle late") {
  for (const char *preset : {"wan2.1-1.3b-480p", "wan2.1-14b-480p", "wan2.1-14b-720p"}) {
    CAPTURE(preset);
    const bool large = std::string(preset) == "wan2.1-14b-720p";
    const Synthesis s = synthesise(preset, 3, large ? 2 : 8, 0);
    ProfileSummariser summariser(s.header());
    for (uint32_t head = 0; head < s.header().heads; ++head)
      summariser.add(1, s.head(1, head));
    const ProfileSummary summary = summariser.finish();
    CHECK(summary.early.iou > 0.85);
    CHECK(summary.early.iou < 0.95);
    CHECK(summary.late.iou > 0.96);
    CHECK(summary.late.iou < 0.985);
    CHECK(summary.early.density > summary.late.density);
  }
}

TEST_CASE("a site does not depend on the part of the model that is asked for") {
  const Synthesis part = synthesise("wan2.1-14b-480p", 2, 3, 2, 7);
  const Synthesis other = synthesise("wan2.1-14b-480p", 6, 1, 10, 7);
  int same = 0;
  for (uint32_t a = 0; a < 2; ++a)
    for (uint32_t b = 0; b < 6; ++b) {
      if (part.modelLayer(a) != other.modelLayer(b))
        continue;
      const HeadProfile x = part.head(a, 0), y = other.head(b, 0);
      for (uint32_t i = 0; i < 2; ++i)
        for (uint32_t j = 0; j < 10; ++j)
          if (part.modelStep(i) == other.modelStep(j)) {
            CHECK(x.masks[x.stepMask[i]] == y.masks[y.stepMask[j]]);
            CHECK(part.header().steps[i].sigma == other.header().steps[j].sigma);
            ++same;
          }
    }
  CHECK(same > 0);
}

TEST_CASE("another seed gives other masks, the same seed the same") {
  const HeadProfile a = synthesise("tiny", 0, 0, 0, 1).head(0, 1);
  const HeadProfile b = synthesise("tiny", 0, 0, 0, 1).head(0, 1);
  CHECK(a.masks == b.masks);
  bool differs = false;
  const Synthesis first = synthesise("tiny", 0, 0, 0, 1), second = synthesise("tiny", 0, 0, 0, 2);
  for (uint32_t layer = 0; layer < 2; ++layer)
    for (uint32_t head = 0; head < 3; ++head)
      differs |= first.head(layer, head).masks != second.head(layer, head).masks;
  CHECK(differs);
}

TEST_CASE("the tiny preset has a tail and one repetitive head") {
  const Synthesis tiny = synthesise("tiny", 0, 0, 0);
  CHECK(tiny.header().tokens() == 560);
  CHECK(tiny.header().blocks() == 5);
  int repetitive = 0;
  for (uint32_t layer = 0; layer < 2; ++layer)
    for (uint32_t head = 0; head < 3; ++head) {
      const HeadProfile profile = tiny.head(layer, head);
      const bool alike = profile.stats[0].repetition >= tiny.header().criterion.gamma;
      CHECK(alike == (tiny.kind(layer, head) == HeadKind::Repetitive));
      CHECK((!alike || profile.masks[0] == BlockMask::dense(5, 5)));
      repetitive += alike;
    }
  CHECK(repetitive == 1);
}

TEST_CASE("a part larger than the model and an unknown preset are refused by name") {
  CHECK(Synthesis::create({"tiny", 3}).message() == "layers: got 3, but tiny has 2");
  CHECK(Synthesis::create({"tiny", 0, 4}).message() == "heads: got 4, but tiny has 3");
  CHECK(Synthesis::create({"tiny", 0, 0, 5}).message() == "steps: got 5, but tiny has 4");
  CHECK(Synthesis::create({"wan"}).message() ==
        "preset: got \"wan\", wanted one of tiny, wan2.1-1.3b-480p, wan2.1-14b-480p, "
        "wan2.1-14b-720p");
}

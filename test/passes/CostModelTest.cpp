// What the cost model predicts and what `auto` makes of it.
#include "compiler/CostModel.h"

#include "runtime/format/ScheduleImage.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

using namespace calibatt;

namespace {

/// A schedule of `tiles` equal rows of `visits` key blocks in `runs` runs, one class.
ScheduleShape uniform(uint32_t tiles, uint32_t visits, uint32_t runs, uint32_t keyBlocks) {
  ScheduleShape shape;
  shape.keyBlocks = keyBlocks;
  shape.tileVisits.assign(tiles, visits);
  shape.classes = 1;
  shape.classVisits = visits;
  shape.classRuns = runs;
  return shape;
}

} // namespace

TEST_CASE("longest-first ends no later than the bound of list scheduling and no earlier than the "
          "work allows") {
  std::mt19937 random(std::random_device{}());
  std::uniform_real_distribution<double> length(1, 50);
  for (int round = 0; round < 20; ++round) {
    std::vector<double> tiles(1 + random() % 300);
    double work = 0, longest = 0;
    for (double &tile : tiles) {
      tile = length(random);
      work += tile;
      longest = std::max(longest, tile);
    }
    uint32_t processors = 1 + random() % 140;
    double lower = std::max(work / processors, longest);
    double end = makespan(tiles, processors);
    CHECK(end >= lower * (1 - 1e-9));
    CHECK(end <= lower * (4.0 / 3.0) + longest);
  }
}

TEST_CASE("the makespan of known tiles is known") {
  CHECK(makespan({}, 4) == 0);
  CHECK(makespan({3, 2, 4}, 1) == 9);
  CHECK(makespan({3, 3, 2, 2, 2}, 2) == 7); // longest-first is not optimal: 6 is possible
}

TEST_CASE("the predicted data image is the data image that is built") {
  std::mt19937 random(std::random_device{}());
  for (int round = 0; round < 20; ++round) {
    Schedule schedule;
    schedule.heads = 1 + random() % 3;
    schedule.queryBlocks = schedule.keyBlocks = 1 + random() % 60;
    schedule.tokens = schedule.keyBlocks * 128;
    ScheduleShape shape;
    shape.keyBlocks = schedule.keyBlocks;
    // Distinct rows: buildScheduleImage merges equal ones.
    for (uint32_t row = 0; row < schedule.keyBlocks; ++row) {
      std::vector<uint16_t> blocks;
      for (uint32_t block = schedule.keyBlocks; block-- > 0;)
        if (block == row || (block < row && random() % 2))
          blocks.push_back(uint16_t(block));
      for (size_t i = 0; i < blocks.size(); ++i)
        shape.classRuns += i == 0 || blocks[i] + 1 != blocks[i - 1];
      schedule.classes.push_back(blocks);
    }
    shape.classes = uint32_t(schedule.classes.size());
    for (uint32_t row = 0; row < schedule.heads * schedule.queryBlocks; ++row) {
      schedule.rowClass.push_back(row % schedule.queryBlocks);
      shape.tileVisits.push_back(uint32_t(schedule.classes[row % schedule.queryBlocks].size()));
    }
    for (Form form : {Form::Runs, Form::Table})
      CHECK(estimateCost(shape, form).dataBytes == scheduleImageBytes(schedule, form));
  }
}

TEST_CASE("auto unrolls what is small, and says why it stops") {
  UnrollBudget budget;
  FormChoice tiny = chooseForm(uniform(4, 4, 1, 4), std::nullopt, budget);
  CHECK(tiny.form == Form::Full);
  CHECK(tiny.reason.find("auto: full is predicted at") == 0);

  FormChoice medium = chooseForm(uniform(4, 9, 2, 60), std::nullopt, budget);
  CHECK(medium.form == Form::Schedule);
  CHECK(medium.reason.find("full is over the budget (72000 bytes") != std::string::npos);

  ScheduleShape rows = uniform(400, 300, 10, 600);
  rows.classes = 400;
  rows.classVisits *= 400;
  rows.classRuns *= 400;
  FormChoice large = chooseForm(rows, std::nullopt, budget);
  CHECK(large.form == Form::Runs);
  CHECK(large.cost.unrolledBytes == 0);
  CHECK(large.reason.find("schedule is over the budget (208000 bytes") != std::string::npos);
}

TEST_CASE("schedule costs by its runs and row classes, not by its visits") {
  ScheduleShape few = uniform(100, 60, 5, 256), many = uniform(100, 60, 30, 256);
  FormCost a = estimateCost(few, Form::Schedule), b = estimateCost(many, Form::Schedule);
  CHECK(b.unrolledBytes - a.unrolledBytes == 25 * 32);
  CHECK(b.compileSeconds > a.compileSeconds);
  CHECK(b.micros == a.micros);
  many.classVisits *= 2;
  CHECK(estimateCost(many, Form::Schedule).unrolledBytes == b.unrolledBytes);
  few.classes = 11;
  CHECK(estimateCost(few, Form::Schedule).unrolledBytes - a.unrolledBytes == 10 * 200);
}

TEST_CASE("between runs and table the smaller data image decides") {
  UnrollBudget none{0, 0};
  CHECK(chooseForm(uniform(10, 300, 2, 600), std::nullopt, none).form == Form::Runs);
  CHECK(chooseForm(uniform(10, 300, 200, 600), std::nullopt, none).form == Form::Table);
}

TEST_CASE("a form that was asked for is taken beyond the budget, and the reason says so") {
  FormChoice choice = chooseForm(uniform(4, 60, 5, 60), Form::Full, UnrollBudget{});
  CHECK(choice.form == Form::Full);
  CHECK(choice.overBudget);
  CHECK(choice.reason == "form full was asked for, over the budget: 480000 bytes of unrolled code, "
                         "budget 65536");
  choice = chooseForm(uniform(4, 60, 5, 60), Form::Full, UnrollBudget{1 << 20, 10});
  CHECK(choice.reason == "form full was asked for, over the budget: 72.5 s to compile, budget 10");
  CHECK_FALSE(chooseForm(uniform(4, 60, 5, 60), Form::Runs, UnrollBudget{0, 0}).overBudget);
}

TEST_CASE("reruns of a frozen maximum are predicted as measured on normal logits, and grow with "
          "the largest") {
  // The largest of 32,760^2 normal numbers is 6.03 deviations.
  const uint64_t tokens = 32760;
  CHECK(predictedReruns(0, tokens) == 0);
  CHECK(predictedReruns(44, tokens) == 0);
  CHECK(predictedReruns(12 * 6.03, tokens) == doctest::Approx(0.0135).epsilon(0.1));
  CHECK(predictedReruns(14 * 6.03, tokens) == doctest::Approx(0.169).epsilon(0.1));
  CHECK(predictedReruns(1e6, tokens) == 1);
  double before = 0;
  for (double largest = 1; largest < 200; largest += 0.5) {
    const double share = predictedReruns(largest, tokens);
    CHECK(share >= before);
    // Among more logits the same largest one says less.
    CHECK(predictedReruns(largest, 75600) <= share);
    before = share;
  }
  CHECK(predictedReruns(50, 1) >= 0); // no matter how short
}

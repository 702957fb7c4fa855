// The emitted text: determined by the plan, and readable back as the schedule.
#include "codegen/KernelPlan.h"
#include "runtime/format/ScheduleImage.h"
#include "test/device/SamplePlans.h"

#include <doctest/doctest.h>
#include <functional>
#include <set>

using namespace calibatt;
using namespace calibatt::test;

TEST_CASE("equal plans give equal text, and the text has the entry's name") {
  for (Form form : {Form::Full, Form::Schedule, Form::Runs, Form::Table}) {
    unsigned seed = std::random_device{}();
    CAPTURE(seed);
    SamplePlan a = makeSample("a", form, 64, 700, 2, 0.5, seed);
    SamplePlan b = makeSample("b", form, 64, 700, 2, 0.5, seed);
    std::string text = emitKernel(a.plan);
    CHECK(text == emitKernel(b.plan));
    CHECK(text.find(kernelSymbol(a.plan) + "(") != std::string::npos);
    CHECK(text.find(CALIBATT_SOURCE_DIR) == std::string::npos);
  }
}

TEST_CASE("whatever changes the code changes the entry's name") {
  using Change = std::function<void(KernelPlan &)>;
  const Change changes[] = {
      [](KernelPlan &) {},
      [](KernelPlan &p) { p.spec.head_dim = 128; },
      [](KernelPlan &p) { p.spec.tokens += 1; },
      [](KernelPlan &p) { p.spec.scale *= 2; },
      [](KernelPlan &p) { p.spec.stages = 3; },
      [](KernelPlan &p) { p.spec.ping_pong = !p.spec.ping_pong; },
      [](KernelPlan &p) { p.spec.lazy_rescale = !p.spec.lazy_rescale; },
      [](KernelPlan &p) { p.spec.persistent = !p.spec.persistent; },
      [](KernelPlan &p) { p.spec.frozen_max = !p.spec.frozen_max; },
      [](KernelPlan &p) { p.spec.mma_sums = !p.spec.mma_sums; },
      [](KernelPlan &p) { p.spec.watchdog = !p.spec.watchdog; },
  };
  for (Form form : {Form::Full, Form::Schedule, Form::Runs, Form::Table}) {
    std::set<std::string> symbols;
    size_t count = 0;
    auto add = [&](const Change &change) {
      KernelPlan plan = makeSample("plan", form, 64, 420, 2, 0.5, 1).plan;
      change(plan);
      symbols.insert(kernelSymbol(plan));
      ++count;
    };
    for (const Change &change : changes)
      add(change);
    if (form == Form::Full || form == Form::Schedule) {
      add([](KernelPlan &p) { p.classes[0] = {2}; });
      add([](KernelPlan &p) { std::swap(p.rowClass[0], p.rowClass[1]); });
    } else {
      add([](KernelPlan &p) { p.scheduleCapacity *= 4; });
    }
    CAPTURE(int(form));
    CHECK(symbols.size() == count);
  }
}

TEST_CASE("the schedule of an unrolled kernel is read back from its text") {
  for (Form form : {Form::Full, Form::Schedule})
    for (int tokens : {1, 128, 420, 1537}) {
      unsigned seed = std::random_device{}();
      CAPTURE(seed);
      SamplePlan sample = makeSample("plan", form, 128, tokens, 3, 0.4, seed);
      auto decoded = decodeEmittedSchedule(emitKernel(sample.plan), "kernel.cu");
      REQUIRE_MESSAGE(decoded, (decoded ? "" : decoded.message()));
      CHECK(*decoded == canonicalSchedule(sample.schedule));
    }
}

TEST_CASE("schedule has a line a run, and runs longer than a word can say are split") {
  KernelPlan plan;
  plan.spec.head_dim = 64;
  plan.spec.tokens = 2000 * kTileKeys;
  plan.spec.scale = 0.125f;
  plan.form = Form::Schedule;
  plan.rowClass.assign(2000, 0);
  plan.rowClass[7] = 1;
  plan.classes = {{}, {9, 8, 4, 2, 1, 0}};
  for (uint16_t block = 2000; block-- > 0;)
    plan.classes[0].push_back(block);
  std::string text = emitKernel(plan);
  auto has = [&](const char *lines) { return text.find(lines) != std::string::npos; };
  CHECK(has("  p.run<0, 977, 1023>();\n  p.run<1023, 0, 977>();\n  return p.end<2000>();\n}\n"));
  CHECK(
      has("  p.run<0, 8, 2>();\n  p.run<2, 4, 1>();\n  p.run<3, 0, 3>();\n  return p.end<6>();\n"));
  CHECK_FALSE(has("p.visit<"));
  auto decoded = decodeEmittedSchedule(text, "kernel.cu");
  REQUIRE_MESSAGE(decoded, (decoded ? "" : decoded.message()));
  CHECK(decoded->row(0, 0) == plan.classes[0]);
  CHECK(decoded->row(0, 7) == plan.classes[1]);
}

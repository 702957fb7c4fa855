#include "runtime/format/StepInfo.h"

#include <fmt/format.h>

namespace calibatt {

Json stepsToJson(const std::vector<StepInfo> &steps) {
  Json array = Json::array();
  for (const StepInfo &step : steps)
    array.push_back({{"timestep", step.timestep}, {"sigma", step.sigma}, {"module", step.module}});
  return array;
}

std::vector<StepInfo> readSteps(JsonFields &fields, size_t limit) {
  const Json &array = fields.array("steps");
  std::vector<StepInfo> steps;
  if (array.size() > limit) {
    fields.fail(fmt::format("steps: got {}, wanted 1 to {}", array.size(), limit));
    return steps;
  }
  for (size_t i = 0; i < array.size(); ++i) {
    JsonFields step(array[i], fmt::format("steps: entry {}", i));
    StepInfo info;
    info.timestep = step.number("timestep");
    info.sigma = step.number("sigma");
    if (step.has("module"))
      info.module = step.string("module");
    if (Status s = step.status(); !s)
      fields.fail(s.message());
    steps.push_back(info);
  }
  return steps;
}

} // namespace calibatt

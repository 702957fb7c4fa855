// The options of a selection and what it reports beyond the profile's summary.
#include "runtime/tools/SelectionOutput.h"
#include "runtime/tools/Report.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cmath>

namespace calibatt {

namespace {

constexpr double kDefaultHysteresis = 0.1;
constexpr double kDefaultSingletons = 0.25;

/// Empty, or what is wrong with the text of --denoise.
std::string parseDenoise(const std::string &text, SelectionOptions &options) {
  for (const std::string &rule : CLI::detail::split(text, ',')) {
    const size_t equals = rule.find('=');
    const std::string name = rule.substr(0, equals);
    const bool hysteresis = name == "hysteresis";
    if (!hysteresis && name != "singletons")
      return fmt::format("unknown rule \"{}\", wanted hysteresis[=BAND] or "
                         "singletons[=ENERGY]",
                         name);
    double value = hysteresis ? kDefaultHysteresis : kDefaultSingletons;
    if (equals != std::string::npos &&
        (!CLI::detail::lexical_cast(rule.substr(equals + 1), value) || !std::isfinite(value) ||
         value <= 0 || (hysteresis && value >= 1)))
      return fmt::format("{}: got \"{}\", wanted a number above 0{}", name, rule.substr(equals + 1),
                         hysteresis ? ", below 1" : "");
    (hysteresis ? options.hysteresis : options.singletons) = value;
  }
  return {};
}

nlohmann::ordered_json ruleJson(const DenoisingCosts &costs, const RuleCost &rule, double value) {
  const double blocks = double(std::max<uint64_t>(1, costs.blocks));
  return {{"value", value},
          {"blocks_added", rule.added},
          {"blocks_dropped", rule.dropped},
          {"density_added", (double(rule.added) - double(rule.dropped)) / blocks},
          {"kept_mass_lost", rule.mass / double(std::max<uint64_t>(1, costs.sites))}};
}

std::string ruleText(const DenoisingCosts &costs, const RuleCost &rule) {
  const double blocks = double(std::max<uint64_t>(1, costs.blocks));
  return fmt::format("{} of the blocks added, {} dropped, {:+.4f} % of the mass kept",
                     percentage(double(rule.added) / blocks),
                     percentage(double(rule.dropped) / blocks),
                     0.0 - 100 * rule.mass / double(std::max<uint64_t>(1, costs.sites)));
}

} // namespace

void SelectionArguments::addTo(CLI::App &command) {
  command.add_option("--rho", options.rho, "Keep a block where this share of the prompts kept it")
      ->type_name("SHARE")
      ->capture_default_str();
  command
      .add_option("--gamma", options.gamma, "A head is repetitive where its score is at least this")
      ->type_name("COSINE")
      ->capture_default_str();
  command
      .add_option(
          "--denoise", denoise,
          fmt::format("Rules against noise, with commas between: hysteresis[=BAND], a block "
                      "within BAND (default {}) of rho follows the step before; "
                      "singletons[=ENERGY], isolated blocks of less than ENERGY (default "
                      "{}) times a uniform share are dropped",
                      kDefaultHysteresis, kDefaultSingletons))
      ->type_name("RULES")
      ->check([this](const std::string &text) { return parseDenoise(text, options); });
  command.add_option("--model", options.model, "Model id instead of the counts'")
      ->type_name("NAME");
}

int writeSelection(const CountsReader &counts, const SelectionOptions &selected,
                   const ProfileOutputOptions &output) {
  Result<CountsSelection> selection = CountsSelection::create(counts, selected);
  if (!selection)
    return reportFailure(selection.message());
  const ProfileHeader &header = selection->header();
  const Criterion &criterion = header.criterion;
  std::vector<DenoisingCosts> costs(uint64_t(header.layers) * header.heads);
  auto total = [&] { // in order, so that threads do not change its rounding
    DenoisingCosts sum;
    for (const DenoisingCosts &c : costs)
      sum += c;
    return sum;
  };
  ReportMore more;
  more.json = [&](nlohmann::ordered_json &report) {
    const DenoisingCosts sum = total();
    nlohmann::ordered_json rules = nlohmann::ordered_json::object();
    if (criterion.hysteresis > 0)
      rules["hysteresis"] = ruleJson(sum, sum.hysteresis, criterion.hysteresis);
    if (criterion.singletons > 0)
      rules["singletons"] = ruleJson(sum, sum.singletons, criterion.singletons);
    report["denoise"] = std::move(rules);
  };
  more.text = [&](const TextStyle &style) -> std::string {
    const DenoisingCosts sum = total();
    TextFields fields;
    if (criterion.hysteresis > 0)
      fields.add(fmt::format("hysteresis {:g}", criterion.hysteresis),
                 ruleText(sum, sum.hysteresis));
    if (criterion.singletons > 0)
      fields.add(fmt::format("singletons {:g}", criterion.singletons),
                 ruleText(sum, sum.singletons));
    const std::string text = fields.text(style);
    return text.empty() ? text : "\n" + text;
  };
  return writeProfile(
      "heads selected", output, header,
      [&](uint64_t index) {
        return selection->head(uint32_t(index / header.heads), uint32_t(index % header.heads),
                               costs[index]);
      },
      more);
}

} // namespace calibatt

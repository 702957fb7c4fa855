// `inspect ls`.
#include "runtime/inspect/SiteListing.h"

#include "runtime/inspect/TextTable.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <map>

namespace calibatt {

std::string siteName(const Site &site) {
  return fmt::format("layer {}, head {}, step {}", site.layer, site.head, site.step);
}

Result<SiteFilter> parseSites(const std::string &text) {
  SiteFilter filter;
  std::optional<uint32_t> *const parts[] = {&filter.layer, &filter.head, &filter.step};
  const char *at = text.data(), *end = at + text.size();
  for (int i = 0; i < 3; ++i) {
    uint32_t number = 0;
    const bool all = at != end && *at == '*';
    auto [next, error] =
        all ? std::from_chars_result{at + 1, std::errc()} : std::from_chars(at, end, number);
    bool closed = i < 2 ? next != end && *next == ',' : next == end;
    if (error != std::errc() || !closed)
      return Error{fmt::format("site \"{}\": wanted LAYER,HEAD,STEP, such as 0,1,3", text)};
    if (!all)
      *parts[i] = number;
    at = next + 1;
  }
  return filter;
}

Result<Site> parseSite(const std::string &text) {
  auto sites = parseSites(text);
  if (!sites)
    return sites.takeError();
  if (!sites->layer || !sites->head || !sites->step)
    return Error{fmt::format("site \"{}\": wanted LAYER,HEAD,STEP, such as 0,1,3", text)};
  return Site{*sites->layer, *sites->head, *sites->step};
}

static Status checkIndex(const PackageReader &package, const char *what, uint32_t got,
                         uint32_t count) {
  if (got < count)
    return {};
  return Error{fmt::format("{}: {} {}: the package has {} 0..{}", package.path(), what, got,
                           std::string(what) + "s", count - 1)};
}

Status checkSite(const PackageReader &package, const Site &site) {
  const Problem &problem = package.manifest().problem;
  if (Status s = checkIndex(package, "layer", site.layer, problem.layers); !s)
    return s;
  if (Status s = checkIndex(package, "head", site.head, problem.heads); !s)
    return s;
  return checkIndex(package, "step", site.step, problem.steps);
}

Result<SiteRow> siteRow(const PackageReader &package, const Site &site, SiteCosts &costs) {
  auto cost = costs.of(site);
  if (!cost)
    return cost.takeError();
  SiteRow row;
  row.cost = *cost;
  row.site = site;
  row.kernel = package.route(site.layer, site.head, site.step);
  row.record = package.kernel(row.kernel);
  row.stats = package.stats(site.layer, site.head, site.step);
  row.repetitive = package.isRepetitive(site.layer, site.head, site.step);
  const CodeImage &code = package.codeInfo(row.record.code);
  row.symbol = code.symbol;
  row.arch = code.arch;
  row.form = code.form;
  row.registers = code.registers;
  row.spillStores = code.spillStores;
  row.spillLoads = code.spillLoads;
  row.codeBytes = code.codeBytes;
  row.staticSmem = code.staticSmem;
  row.dynamicSmem = code.dynamicSmem;
  if (row.record.data != kNone)
    row.dataBytes = package.dataBytes(row.record.data);
  return row;
}

Result<SiteListing> listSites(const PackageReader &package, const SiteFilter &filter) {
  if (Status s = checkSite(
          package, {filter.layer.value_or(0), filter.head.value_or(0), filter.step.value_or(0)});
      !s)
    return s.takeError();
  const Problem &problem = package.manifest().problem;
  auto first = [](std::optional<uint32_t> wanted) { return wanted.value_or(0); };
  auto end = [](std::optional<uint32_t> wanted, uint32_t count) {
    return wanted ? *wanted + 1 : count;
  };
  SiteListing listing;
  listing.launches = launchesOf(package);
  SiteCosts costs(package);
  for (uint32_t l = first(filter.layer); l < end(filter.layer, problem.layers); ++l)
    for (uint32_t h = first(filter.head); h < end(filter.head, problem.heads); ++h)
      for (uint32_t s = first(filter.step); s < end(filter.step, problem.steps); ++s)
        if (listing.matched++ < filter.limit) {
          auto row = siteRow(package, {l, h, s}, costs);
          if (!row)
            return row.takeError();
          listing.rows.push_back(row.take());
        }
  return listing;
}

std::string listingText(const SiteListing &listing, const TextStyle &style) {
  TextTable table({">layer", ">head", ">step", ">kernel", "form", ">computed", ">kept mass",
                   ">predicted us", ">registers", ">spills", ">code bytes", ">data bytes",
                   "symbol"});
  for (const SiteRow &row : listing.rows)
    table.addRow(
        {std::to_string(row.site.layer), std::to_string(row.site.head),
         std::to_string(row.site.step), std::to_string(row.kernel), formName(row.form),
         percentage(row.cost.computed) + (row.repetitive ? " r" : ""),
         percentage(row.stats.keptMass),
         row.cost.predictedMicros > 0 ? fmt::format("{:.2f}", row.cost.predictedMicros) : "-",
         std::to_string(row.registers), std::to_string(row.spillStores + row.spillLoads),
         groupedNumber(row.codeBytes), row.dataBytes ? groupedNumber(row.dataBytes) : "in code",
         row.symbol});
  std::string text = table.text(style);
  if (std::any_of(listing.rows.begin(), listing.rows.end(),
                  [](const SiteRow &row) { return row.repetitive; }))
    text += "  r: repetitive; its anchor rows are computed, the other rows are copies\n";
  if (listing.rows.size() < listing.matched)
    text += fmt::format("  ... {} of {} shown\n", groupedNumber(listing.rows.size()),
                        counted(listing.matched, "site"));
  return text;
}

nlohmann::ordered_json siteRowJson(const SiteRow &row) {
  const KernelRecord &record = row.record;
  nlohmann::ordered_json json = {
      {"layer", row.site.layer},
      {"head", row.site.head},
      {"step", row.site.step},
      {"kernel", row.kernel},
      {"form", formName(row.form)},
      {"computed", row.cost.computed},
      {"visits", row.cost.visits},
      {"predicted_us", row.cost.predictedMicros},
      {"kept_mass", row.stats.keptMass},
      {"repetition", row.stats.repetition},
      {"repetitive", row.repetitive},
      {"registers", row.registers},
      {"spill_store_bytes", row.spillStores},
      {"spill_load_bytes", row.spillLoads},
      {"static_shared_memory_bytes", row.staticSmem},
      {"dynamic_shared_memory_bytes", row.dynamicSmem},
      {"code_bytes", row.codeBytes},
      {"data_bytes", row.dataBytes},
      {"symbol", row.symbol},
      {"arch", row.arch},
      {"kernel_heads", {record.headBase, record.headBase + record.heads}},
      {"reason", record.reason},
  };
  return json;
}

nlohmann::ordered_json listingJson(const SiteListing &listing) {
  nlohmann::ordered_json sites = nlohmann::ordered_json::array();
  for (const SiteRow &row : listing.rows)
    sites.push_back(siteRowJson(row));
  std::map<uint32_t, const SiteRow *> named;
  for (const SiteRow &row : listing.rows)
    named.emplace(row.kernel, &row);
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  for (const auto &[kernel, row] : named)
    kernels.push_back({{"kernel", kernel},
                       {"launches", listing.launches[kernel]},
                       {"visits", row->record.visits},
                       {"predicted_us", row->record.predictedMicros}});
  return {
      {"matched", listing.matched}, {"sites", std::move(sites)}, {"kernels", std::move(kernels)}};
}

} // namespace calibatt

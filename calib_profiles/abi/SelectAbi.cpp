// calibatt_counts_select: from open counts to a profile file.
#include "calib_profiles/CountsSelection.h"
#include "calib_profiles/HeadStream.h"
#include "calib_profiles/ProfileSummary.h"
#include "calib_profiles/abi/CountsHandle.h"

#include <algorithm>

using namespace calibatt;
using namespace calibatt::abi;

namespace {

SelectionOptions optionsOf(const calibatt_select_options_t &given) {
  SelectionOptions options;
  options.rho = given.rho != 0 ? given.rho : options.rho;
  options.gamma = given.gamma != 0 ? given.gamma : options.gamma;
  options.hysteresis = given.hysteresis;
  options.singletons = given.singletons;
  options.model = given.model ? given.model : "";
  return options;
}

/// Writes the profile; `means` and `costs` tell what it came to.
Status writeSelected(const CountsSelection &selection, const char *path, unsigned threads,
                     SiteMeans &means, DenoisingCosts &costs) {
  const ProfileHeader &h = selection.header();
  const uint64_t heads = uint64_t(h.layers) * h.heads;
  Result<ProfileWriter> writer = ProfileWriter::create(path, h);
  if (!writer)
    return writer.takeError();
  ProfileSummariser summariser(h);
  std::vector<DenoisingCosts> byHead(heads); // added up in order: the same for any threads
  if (Status s = streamHeads(
          heads, threads,
          [&](uint64_t i) {
            return selection.head(uint32_t(i / h.heads), uint32_t(i % h.heads), byHead[i]);
          },
          [&](uint64_t i, const HeadProfile &head) {
            summariser.add(uint32_t(i / h.heads), head);
            return writer->append(head);
          });
      !s)
    return s;
  if (Status s = writer->finish(); !s)
    return s;
  means = summariser.finish().all;
  for (const DenoisingCosts &c : byHead)
    costs += c;
  return {};
}

} // namespace

calibatt_profile_status_t calibatt_counts_select(calibatt_counts_t *counts,
                                                 const calibatt_select_options_t *options,
                                                 const char *profile_path,
                                                 calibatt_select_result_t *result) {
  constexpr const char *kFunction = "calibatt_counts_select";
  return withCounts(counts, kFunction, [&](CountsAccumulator &accumulator) {
    if (!profile_path)
      return nullArgument(kFunction, "profile_path");
    calibatt_select_options_t given = {};
    calibatt_select_result_t value = {};
    if (options)
      if (const auto status = readStruct(kFunction, options, given))
        return status;
    if (result) // before any work
      if (const auto status = readStruct(kFunction, result, value))
        return status;
    if (const PromptWriter *prompt = accumulator.prompt())
      return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT,
                  fmt::format("{}: prompt \"{}\" is open", kFunction, prompt->promptId()));
    Result<CountsSelection> selection =
        CountsSelection::create(accumulator.counts(), optionsOf(given));
    if (!selection)
      return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT, selection.message());
    SiteMeans means;
    DenoisingCosts costs;
    if (Status s = writeSelected(*selection, profile_path, given.threads, means, costs); !s)
      return fail(CALIBATT_PROFILE_STATUS_STORAGE, s);
    if (!result)
      return CALIBATT_PROFILE_STATUS_OK;
    const double sites = double(std::max<uint64_t>(1, costs.sites));
    value.sites = means.sites;
    value.repetitive_sites = means.repetitive;
    value.density = means.density;
    value.kept_mass = means.keptMass;
    value.computed = means.computed;
    value.hysteresis_mass = costs.hysteresis.mass / sites;
    value.singletons_mass = costs.singletons.mass / sites;
    return writeStruct(kFunction, value, result);
  });
}

// The loop from heads to a profile file.
#include "runtime/tools/ProfileOutput.h"
#include "runtime/tools/ProfileTables.h"
#include "runtime/tools/Report.h"
#include "runtime/usage/Usage.h"

namespace calibatt {

void addProfileOutput(CLI::App &command, ProfileOutputOptions &options) {
  command.add_option("-o,--output", options.output, "The profile to write")
      ->type_name("FILE")
      ->required();
  command.add_option("-j,--jobs", options.jobs, "Threads; 0: one a core")
      ->type_name("N")
      ->check(wholeNumber(0, 256));
  command.add_flag("--json", options.json, "Report as JSON");
}

int writeProfile(const std::string &progressName, const ProfileOutputOptions &options,
                 const ProfileHeader &header, const ProduceHead &produce, const ReportMore &more) {
  const std::string &path = options.output;
  Result<ProfileWriter> writer = ProfileWriter::create(path, header);
  if (!writer)
    return reportFailure(writer.message());
  ProfileSummariser summariser(header);
  const uint64_t heads = uint64_t(header.layers) * header.heads;
  Status status;
  {
    ProgressLine progress(progressName, heads);
    status = streamHeads(heads, options.jobs, produce,
                         [&](uint64_t index, const HeadProfile &head) -> Status {
                           if (Status s = writer->append(head); !s)
                             return s;
                           summariser.add(uint32_t(index / header.heads), head);
                           progress.update(index + 1);
                           return {};
                         });
    if (status)
      status = writer->finish();
  }
  if (!status)
    return reportFailure(status.message());
  const ProfileSummary summary = summariser.finish();
  if (options.json) {
    nlohmann::ordered_json report = profileJson(path, fileSize(path), header, summary);
    if (more.json)
      more.json(report);
    return printJson(report);
  }
  const TextStyle style = stdoutStyle();
  return printText(profileText(path, fileSize(path), header, summary, style) +
                   (more.text ? more.text(style) : std::string()));
}

} // namespace calibatt

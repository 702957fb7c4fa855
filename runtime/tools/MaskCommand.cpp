// `calibatt inspect mask`: the masks of sites as characters, pictures, JSON.
#include "runtime/tools/MaskCommand.h"

#include "runtime/inspect/SiteSchedule.h"
#include "runtime/inspect/mask/ContactSheet.h"
#include "runtime/inspect/mask/MaskText.h"
#include "runtime/inspect/mask/PngFile.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/MaskSource.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/SiteArgument.h"
#include "runtime/tools/Terminal.h"
#include "runtime/usage/Usage.h"

#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <memory>

namespace calibatt {
namespace {

struct Options {
  std::string file, png;
  SiteArgument site;
  bool ascii = false, json = false;
  std::string characters; ///< empty where nothing is said
  std::optional<uint32_t> columns;
  uint32_t scale = 0;

  bool wantsText() const { return ascii || !characters.empty() || columns; }
  bool onlyAscii() const { return ascii || characters == "ascii"; }
};

/// The sites meant, and what changes from one to the next where they are several.
struct Selection {
  std::vector<Site> sites;
  std::optional<SheetOver> over;
};

Result<Selection> select(const Options &options, const MaskSource &source) {
  auto filter = options.site.sites();
  if (!filter)
    return filter.takeError();
  if (Status s = source.check(*filter); !s)
    return s.takeError();
  const MaskSource::Counts all = source.counts();
  const uint32_t count = !filter->layer  ? all.layers
                         : !filter->head ? all.heads
                         : !filter->step ? all.steps
                                         : 1;
  Selection selection;
  for (uint32_t i = 0; i < count; ++i)
    selection.sites.push_back(
        {filter->layer.value_or(i), filter->head.value_or(i), filter->step.value_or(i)});
  if (!filter->layer)
    selection.over = SheetOver::Layers;
  else if (!filter->head)
    selection.over = SheetOver::Heads;
  else if (!filter->step)
    selection.over = SheetOver::Steps;
  return selection;
}

struct WrittenPicture {
  uint32_t width = 0, height = 0;
  uint64_t bytes = 0;
  std::vector<MapPlace> maps;
};

Result<MaskPicture> draw(const Selection &selection, MaskSource &source, uint32_t scale) {
  if (!selection.over) {
    auto mask = source.mask(selection.sites.front());
    if (!mask)
      return mask.takeError();
    return sitePicture(*mask, source.shape(), scale);
  }
  auto sheet = ContactSheet::create(source.shape(), *selection.over, selection.sites.front(),
                                    uint32_t(selection.sites.size()), scale);
  if (!sheet)
    return sheet.takeError();
  for (const Site &site : selection.sites) {
    auto mask = source.mask(site);
    if (!mask)
      return mask.takeError();
    sheet->add(*mask);
  }
  return sheet->finish();
}

Result<WrittenPicture> writePicture(const Options &options, const Selection &selection,
                                    MaskSource &source) {
  auto picture = draw(selection, source, options.scale);
  if (!picture)
    return Error{fmt::format("{}: {}", options.png, picture.message())};
  auto bytes = writePng(options.png, picture->canvas);
  if (!bytes)
    return bytes.takeError();
  return WrittenPicture{picture->canvas.width(), picture->canvas.height(), *bytes,
                        std::move(picture->maps)};
}

/// All masks as text, one below the other.
Result<std::string> masksText(const Options &options, const Selection &selection,
                              MaskSource &source, const TextStyle &style) {
  const VideoShape shape = source.shape();
  MaskTextOptions text;
  text.columns = options.columns.value_or(terminalColumns());
  text.characters = options.onlyAscii()               ? MaskCharacters::Ascii
                    : options.characters == "halves"  ? MaskCharacters::Halves
                    : options.characters == "braille" ? MaskCharacters::Braille
                    : drawsUnicode()                  ? charactersFor(shape.blocks(), text.columns)
                                                      : MaskCharacters::Ascii;
  std::string result =
      fmt::format("{}  {}\n", style.bold(shape.model), fmt::join(shapeFacts(shape), ", "));
  bool first = true;
  for (const Site &site : selection.sites) {
    auto mask = source.mask(site);
    if (!mask)
      return mask.takeError();
    if (!first)
      result += '\n';
    first = false;
    result +=
        fmt::format("{}  {}\n", style.bold(siteName(site)), fmt::join(siteFacts(*mask), ", "));
    result +=
        style.dim(fmt::format("rows: queries, columns: keys; {}", maskTextLegend(*mask, text)));
    result += '\n';
    result += maskText(*mask, shape, text, style);
  }
  return result;
}

nlohmann::ordered_json maskJson(const SiteMask &mask, bool withRows) {
  nlohmann::ordered_json json = {
      {"layer", mask.site.layer},
      {"head", mask.site.head},
      {"step", mask.site.step},
      {"computed", mask.computed()},
      {"kept_mass", mask.keptMass},
      {"repetition", mask.repetition},
      {"repetitive", mask.repetitive},
      {"anchor_rows", mask.anchorRows},
      {"form", mask.form.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(mask.form)}};
  if (!withRows)
    return json;
  json["rows"] = nlohmann::ordered_json::array();
  for (uint32_t query = 0; query < mask.blocks; ++query) {
    nlohmann::ordered_json runs = nlohmann::ordered_json::array();
    for (uint32_t key = 0; key < mask.blocks; ++key) {
      if (!mask.at(query, key))
        continue;
      const uint32_t begin = key;
      while (key + 1 < mask.blocks && mask.at(query, key + 1))
        ++key;
      runs.push_back({begin, key});
    }
    json["rows"].push_back(std::move(runs));
  }
  return json;
}

nlohmann::ordered_json pictureJson(const std::string &path, const WrittenPicture &picture) {
  nlohmann::ordered_json maps = nlohmann::ordered_json::array();
  for (const MapPlace &map : picture.maps)
    maps.push_back({{"layer", map.site.layer},
                    {"head", map.site.head},
                    {"step", map.site.step},
                    {"x", map.x},
                    {"y", map.y},
                    {"pixels", map.pixels},
                    {"pixels_per_block", map.scale.pixelsPerBlock},
                    {"blocks_per_pixel", map.scale.blocksPerPixel}});
  return {{"file", path},
          {"width", picture.width},
          {"height", picture.height},
          {"bytes", picture.bytes},
          {"maps", std::move(maps)}};
}

/// Rows of the masks unless a picture has them.
Result<nlohmann::ordered_json> masksJson(const Options &options, const Selection &selection,
                                         MaskSource &source) {
  const VideoShape shape = source.shape();
  nlohmann::ordered_json json = {{"file", source.path()},
                                 {"model", shape.model},
                                 {"grid", {shape.frames, shape.height, shape.width}},
                                 {"max_text", shape.maxText},
                                 {"block", shape.block},
                                 {"blocks", shape.blocks()}};
  json["sites"] = nlohmann::ordered_json::array();
  for (const Site &site : selection.sites) {
    auto mask = source.mask(site);
    if (!mask)
      return mask.takeError();
    json["sites"].push_back(maskJson(*mask, options.png.empty()));
  }
  return json;
}

int run(const Options &options) {
  if (options.png.empty() && !options.json && !options.wantsText() && !stdoutIsTerminal()) {
    return reportUsage("calibatt", "calibatt inspect mask",
                       "stdout is not a terminal: give --png FILE for a picture, --characters auto "
                       "or --ascii for characters, or --json");
  }
  auto source = MaskSource::open(options.file);
  if (!source)
    return reportFailure(source.message());
  auto selection = select(options, **source);
  if (!selection)
    return reportFailure(selection.message());

  // What is printed comes before the picture is written: a failure leaves no file.
  nlohmann::ordered_json json;
  std::string text;
  if (options.json) {
    auto made = masksJson(options, *selection, **source);
    if (!made)
      return reportFailure(made.message());
    json = made.take();
  } else if (options.png.empty() || options.wantsText()) {
    auto made = masksText(options, *selection, **source, stdoutStyle());
    if (!made)
      return reportFailure(made.message());
    text = made.take();
  }
  if (!options.png.empty()) {
    std::error_code ignored;
    if (std::filesystem::equivalent(options.png, options.file, ignored))
      return reportFailure(options.png + ": is the " + (*source)->kind() +
                           "; the picture needs another name");
    auto picture = writePicture(options, *selection, **source);
    if (!picture)
      return reportFailure(picture.message());
    if (options.json)
      json["png"] = pictureJson(options.png, *picture);
    else
      text += fmt::format("{}  {}, {} x {} pixels, {}\n", options.png,
                          counted(selection->sites.size(), "mask"), picture->width, picture->height,
                          byteQuantity(picture->bytes));
  }
  if (options.json)
    return printJson(json);
  return printText(options.onlyAscii() ? asciiText(text) : text);
}

} // namespace

void addMask(CLI::App &inspect, int &exitCode) {
  auto *command = inspect.add_subcommand(
      "mask", "Which blocks sites compute, as a picture: of a package or a profile");
  auto options = std::make_shared<Options>();
  command->add_option("file", options->file, "The package or profile")
      ->type_name("FILE")
      ->required();
  options->site.addTo(*command, "LAYER,HEAD,STEP, such as 0,1,3; one of them may be *, for all of "
                                "its kind on one contact sheet");
  command->add_option("--png", options->png, "Write a picture")->type_name("FILE");
  command->add_option("--scale", options->scale, "Pixels a block of the picture (default: fitting)")
      ->check(wholeNumber(1, 256))
      ->type_name("N");
  auto *characters =
      command->add_option("--characters", options->characters,
                          "Print characters; auto is what the terminal can show, and the default "
                          "on one without --png");
  addChoice(*characters, {"auto", "halves", "braille", "ascii"});
  command->add_flag("--ascii", options->ascii, "The same as --characters ascii: 7 bits, everywhere")
      ->excludes(characters);
  command->add_option("--width", options->columns, "Columns of the characters (default: all)")
      ->check(wholeNumber(20, 1000))
      ->type_name("N");
  command->add_flag("--json", options->json, "Machine-readable output");
  command->callback([options, &exitCode] {
    options->site.require(true);
    exitCode = run(*options);
  });
}

} // namespace calibatt

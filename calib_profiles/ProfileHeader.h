// The JSON document of a profile, `__metadata__.calibatt`, and what both the
// reader and the writer check.
#pragma once

#include "calib_profiles/Profile.h"
#include "runtime/format/Json.h"

#include <string>

namespace calibatt {

constexpr const char *kProfileFormat = "calibatt.profile";
constexpr const char *kBitmapFormat = "calibatt.bitmaps";
constexpr const char *kCountsFormat = "calibatt.counts";
constexpr const char *kMetadataKey = "calibatt";
/// Of profiles and counts; bitmaps have 1.x.
constexpr const char *kFormatVersion = "2.0";
/// What profiles of this program name as their tool.
constexpr const char *kToolName = "calibatt 0.1.0";

constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxProfileHeads = 256;
constexpr uint32_t kMaxSteps = 1024;
constexpr uint32_t kMaxBlocks = 4096;
constexpr uint64_t kMaxSites = 1u << 24;
/// All masks of one (layer, head), decoded.
constexpr uint64_t kMaxHeadBytes = 1u << 30;

/// Every limit of README.md; `where` begins the message.
Status validateHeader(const ProfileHeader &header, const std::string &where);

/// The document as stored. In kCountsFormat it has nothing that selection decides
/// (rho, gamma), or that changes when a prompt is added.
Result<std::string> encodeHeader(const ProfileHeader &header, const std::string &where,
                                 const char *format = kProfileFormat);

/// Parses and validates. `format` is the wanted value of the field `format`;
/// in kBitmapFormat everything about how the masks were made is optional. Of the major versions,
/// which are read: bitmaps 1, profiles 2, counts 1 and 2; `major` is set to what it is.
Result<ProfileHeader> decodeHeader(const std::string &text, const std::string &format,
                                   const std::string &where, uint32_t *major = nullptr);

/// Reads the member `grid`, [frames, height, width].
Grid readGrid(JsonFields &fields);

/// Refuses a mask of the wrong shape, with bits beyond the grid, or with an
/// empty row; the message names layer, head, step and row.
Status validateMask(const BlockMask &mask, uint32_t blocks, uint32_t layer, uint32_t head,
                    uint32_t step, const std::string &where);

/// The first field in which two things measured differ, with file, got and wanted;
/// what selection decides is not compared.
Status checkSameProblem(const ProfileHeader &wanted, const std::string &wantedName,
                        const ProfileHeader &got, const std::string &gotName);

/// Bytes of one mask as stored.
uint64_t maskBytes(const ProfileHeader &header);

} // namespace calibatt

// The layers of a quantized model in a report: a table that sorts and filters, heat maps by block
// and role, errors per denoising step.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/text_table.h"
#include "mezzotint/report.h"

namespace mezzotint::cli {

enum class Fold : uint8_t { kOpen, kClosed };

std::string layer_details_html(std::string_view label, const Report& report, Fold fold);
std::string_view layer_hint();  // HTML: how to read it

}  // namespace mezzotint::cli

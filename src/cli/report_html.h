// The comparison report as ONE self-contained HTML file: images as data URIs, no network (a content
// security policy forbids it), light and dark. A pure function of its argument; every text is
// escaped.
#pragma once

#include <string>
#include <string_view>

#include "cli/comparison_report.h"

namespace mezzotint::cli {

std::string report_html(const ComparisonReport& report);

std::string html_escaped(std::string_view text);

// The inline style sheet and script (report_assets.cc).
std::string_view report_style();
std::string_view report_script();

}  // namespace mezzotint::cli

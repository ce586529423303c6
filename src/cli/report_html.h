// The comparison report as one HTML file (report_page.h). A pure function of its argument.
#pragma once

#include <string>

#include "cli/comparison_report.h"

namespace mezzotint::cli {

std::string report_html(const ComparisonReport& report);

}  // namespace mezzotint::cli

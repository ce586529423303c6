#include "kernels/registry.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "kernels/test_data.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr QuantScheme kInt8Weight{Element::kInt8, Granularity::kPerChannel, 0};
constexpr QuantScheme kFloatWeight{Element::kBF16, Granularity::kNone, 0};
constexpr Isa kEveryIsa[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni,
                             Isa::kAvx512Bf16};

TEST(Registry, NamesAreUnique) {
  std::set<std::string_view> names;
  for (const LinearKernel& row : linear_kernels()) EXPECT_TRUE(names.insert(row.name).second);
  for (const QuantizeRowsKernel& row : quantize_rows_kernels()) {
    EXPECT_TRUE(names.insert(row.name).second);
  }
  for (const QuantizeMxKernel& row : quantize_mx_kernels()) {
    EXPECT_TRUE(names.insert(row.name).second);
  }
  for (const LayoutRow& row : layout_rows()) EXPECT_TRUE(names.insert(row.name).second);
}

TEST(Registry, EveryLayoutAndFormEndsWithAPortableReferenceThatTakesEverything) {
  for (const LinearKernel& row : linear_kernels()) {
    const LinearKernel* last = nullptr;
    for (const LinearKernel& other : linear_kernels()) {
      if (other.layout == row.layout && other.activation == row.activation) last = &other;
    }
    EXPECT_TRUE(is_reference(*last)) << row.name;
    EXPECT_EQ(last->isa, Isa::kPortable);
    EXPECT_EQ(last->declines, nullptr);
  }
}

TEST(Registry, Int8LinearsRunFromPanelsWhereARowReadsThem) {
  for (Isa isa : kEveryIsa) {
    const LayoutId expected = isa >= Isa::kAvx2 ? LayoutId::kInt8Vnni : LayoutId::kInt8Rows;
    const LayoutRow& layout =
        choose_layout(kInt8Weight, ActivationForm::kInt8Rows, 3072, 3072, isa);
    EXPECT_EQ(layout.id, expected) << isa_name(isa);
    for (int64_t m : {1, 4, 4096}) {
      const auto& row = choose_linear_kernel(layout.id, ActivationForm::kInt8Rows,
                                             {m, 3072, 3072, FloatType::kF32, kInt8Weight}, isa);
      EXPECT_FALSE(is_reference(row)) << row.name;
    }
  }
}

TEST(Registry, FourBitLinearsStayFourBitAndRunFromPanelsWhereARowReadsThem) {
  constexpr QuantScheme kInt4Weight{Element::kInt4, Granularity::kPerChannel, 0};
  constexpr QuantScheme kMxWeight{Element::kE2M1, Granularity::kMxBlock, 0};
  constexpr QuantScheme kDualWeight{Element::kE2M1, Granularity::kDualLevel, 0};
  for (const QuantScheme& scheme : {kInt4Weight, kMxWeight, kDualWeight}) {
    const ActivationForm form =
        scheme.element == Element::kInt4 ? ActivationForm::kInt8Rows : ActivationForm::kMxRows;
    for (Isa isa : kEveryIsa) {
      const LayoutId expected = isa >= Isa::kAvx2 ? LayoutId::kNibblePanels : LayoutId::kNibbleRows;
      const LayoutRow& layout = choose_layout(scheme, form, 3072, 3072, isa);
      EXPECT_EQ(layout.id, expected) << isa_name(isa);
      // 1.05 of the codes' own bytes.
      EXPECT_LE(layout.payload_bytes(256, 3072, scheme.element), 256 * 3072 / 2 * 105 / 100);
      for (int64_t m : {1, 16, 120, 121, 4096}) {
        const auto& row =
            choose_linear_kernel(layout.id, form, {m, 3072, 3072, FloatType::kF32, scheme}, isa);
        EXPECT_FALSE(is_reference(row)) << row.name;
        const bool mx_on_vnni = form == ActivationForm::kMxRows && isa >= Isa::kAvx512Vnni;
        EXPECT_EQ(row.name.ends_with("_narrow"), mx_on_vnni && m <= 120) << row.name;
      }
    }
  }
}

TEST(Registry, FormOfXDecidesTheRowOfALayout) {
  const auto& codes = choose_linear_kernel(LayoutId::kInt8Rows, ActivationForm::kInt8Rows,
                                           {8, 8, 8, FloatType::kF32, kInt8Weight}, Isa::kAvx2);
  const auto& floats = choose_linear_kernel(LayoutId::kInt8Rows, ActivationForm::kFloat,
                                            {8, 8, 8, FloatType::kF32, kInt8Weight}, Isa::kAvx2);
  EXPECT_EQ(codes.name, "int8_rows/blas_portable");
  EXPECT_EQ(floats.name, "int8_weight_only/blas_avx2");
}

TEST(Registry, GroupsAndOffsetsGoToRowsThatKnowThem) {
  QuantScheme grouped{Element::kInt8, Granularity::kPerGroup, 64};
  QuantScheme asymmetric = kInt8Weight;
  asymmetric.asymmetric = true;
  for (const QuantScheme& scheme : {grouped, asymmetric}) {
    for (const ActivationForm form : {ActivationForm::kInt8Rows, ActivationForm::kFloat}) {
      const LayoutRow& layout = choose_layout(scheme, form, 64, 128, Isa::kAvx512Bf16);
      EXPECT_EQ(layout.id,
                form == ActivationForm::kFloat ? LayoutId::kBytePanels : LayoutId::kInt8Rows);
      for (int64_t m : {1, 4, 4096}) {
        const LinearKernel& row = choose_linear_kernel(
            layout.id, form, {m, 64, 128, FloatType::kF32, scheme}, Isa::kAvx512Bf16);
        EXPECT_NE(row.weights, WeightForm::kChannel) << row.name;
        EXPECT_FALSE(is_reference(row)) << row.name;
      }
    }
  }
}

TEST(Registry, FewRowsAreServedByDotProducts) {
  const auto row_for = [](LayoutId layout, int64_t m, Isa isa) {
    const QuantScheme weight = layout == LayoutId::kFloatRows ? kFloatWeight : kInt8Weight;
    return choose_linear_kernel(layout, ActivationForm::kFloat,
                                {m, 64, 64, FloatType::kF32, weight}, isa)
        .name;
  };
  EXPECT_EQ(row_for(LayoutId::kFloatRows, 4, Isa::kAvx512), "float/dot_avx512");
  EXPECT_EQ(row_for(LayoutId::kFloatRows, 5, Isa::kAvx512), "float/blas_avx512");
  EXPECT_EQ(row_for(LayoutId::kInt8Rows, 1, Isa::kAvx2), "int8_weight_only/dot_avx2");
  EXPECT_EQ(row_for(LayoutId::kInt8Rows, 1, Isa::kPortable), "int8_weight_only/blas_portable");
}

TEST(Registry, FloatWeightsStayAsTheyAreAndBf16OnesBecomePanels) {
  const auto layout_of = [](Element element) {
    return choose_layout({element, Granularity::kNone, 0}, ActivationForm::kFloat, 8, 8,
                         Isa::kPortable)
        .id;
  };
  EXPECT_EQ(layout_of(Element::kF32), LayoutId::kFloatRows);
  EXPECT_EQ(layout_of(Element::kF16), LayoutId::kFloatRows);
  EXPECT_EQ(layout_of(Element::kBF16), LayoutId::kBf16Panels);
}

TEST(Registry, UnservedSchemesAreErrorsWithReasons) {
  const QuantScheme alone{Element::kE4M3, Granularity::kPerChannel, 0};
  EXPECT_THROW(choose_layout(alone, ActivationForm::kFloat, 8, 64, Isa::kAvx512), Error);
  try {
    choose_linear_kernel(LayoutId::kInt8Vnni, ActivationForm::kFloat,
                         {8, 16, 32, FloatType::kF32, kInt8Weight}, Isa::kAvx512);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    const std::string message = error.what();
    EXPECT_NE(message.find("a row of layout int8_vnni"), std::string::npos) << message;
    EXPECT_NE(message.find("m 8, n 16, k 32 (no row for this form of x)"), std::string::npos)
        << message;
  }
}

TEST(Registry, QuantizerOfTheBestIsaComesFirst) {
  EXPECT_EQ(choose_quantize_rows_kernel(Isa::kAvx512Bf16).name, "quantize_rows/avx512");
  EXPECT_EQ(choose_quantize_rows_kernel(Isa::kAvx2).name, "quantize_rows/avx2");
  EXPECT_EQ(choose_quantize_rows_kernel(Isa::kPortable).name, "quantize_rows/portable");
}

}  // namespace
}  // namespace mezzotint

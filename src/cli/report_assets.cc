#include "cli/report_page.h"

namespace mezzotint::cli {

std::string_view report_style() {
  return R"css(
:root{--paper:#faf8f5;--card:#fff;--ink:#211d19;--soft:#6d655c;--line:#e5dfd6;--accent:#9c4a22;
--wash:#f6e9e0;--good:#2f7d4f;--warn:#a86a00;--shadow:0 1px 2px #0000000d,0 8px 24px #0000000a}
@media(prefers-color-scheme:dark){:root{--paper:#161412;--card:#1f1c19;--ink:#ece6dd;--soft:#a59b8e;
--line:#37312b;--accent:#e79a6b;--wash:#33241a;--good:#7cc798;--warn:#e0b060;--shadow:none}}
*{box-sizing:border-box}
html{color-scheme:light dark}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main,header{max-width:1120px;margin:0 auto;padding:0 24px}
header{padding-top:44px;padding-bottom:6px}
.mark{font-size:12px;letter-spacing:.16em;text-transform:uppercase;color:var(--accent);font-weight:650}
h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:6px 0 10px;font-weight:680}
.verdict{font-size:18px;line-height:1.45;margin:0 0 14px;max-width:62ch}
.chips{display:flex;flex-wrap:wrap;gap:8px;margin:0;padding:0;list-style:none}
.chips li{background:var(--card);border:1px solid var(--line);border-radius:99px;padding:2px 12px;
font-size:13px;color:var(--soft)}
.chips b{color:var(--ink);font-weight:600}
section{margin:34px 0}
h2{font-size:18px;margin:0 0 4px;letter-spacing:-.005em}
.hint{color:var(--soft);font-size:13.5px;margin:0 0 12px;max-width:90ch}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;box-shadow:var(--shadow);
overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:9px 14px;text-align:left;border-bottom:1px solid var(--line);vertical-align:middle}
tbody tr:last-child td{border-bottom:0}
thead th{font-size:12.5px;font-weight:600;color:var(--soft);white-space:nowrap}
.n{text-align:right}
.summary td{white-space:nowrap;font-size:15px}
.summary td:first-child{font-weight:620}
.summary tr.best td{background:var(--wash)}
.bar{display:block;height:4px;border-radius:2px;background:var(--line);margin-top:5px;min-width:76px}
.bar i{display:block;height:100%;border-radius:2px;background:var(--accent)}
.grid td,.grid th{padding:8px 10px;vertical-align:top}
.grid td.p{min-width:170px;max-width:230px;font-size:13.5px;line-height:1.4;padding-left:14px}
.grid tbody td{border-bottom:1px solid var(--line)}
.grid th.f,.grid td.f{border-left:1px solid var(--line)}
.p .k{color:var(--soft);font-size:12px;display:block}
.grid img{display:block;width:88px;height:88px;image-rendering:pixelated;border-radius:6px;
background:var(--line);transition:transform .12s}
.grid img:hover{transform:scale(2.2);position:relative;z-index:2;box-shadow:0 6px 24px #0006}
.cap{font-size:11.5px;color:var(--soft);display:block;margin-top:3px;max-width:88px;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}
details{margin:0 0 10px}
summary{cursor:pointer;padding:10px 14px;font-weight:600}
summary span{color:var(--soft);font-weight:400;margin-left:8px}
.layers{font-size:13px}
.layers td,.layers th{padding:5px 10px}
.layers td:first-child,.layers th:first-child{padding-left:14px}
.layers td:first-child{font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;
font-size:12.5px}
.layers th{cursor:pointer;user-select:none;position:sticky;top:0;background:var(--card)}
.layers th:hover{color:var(--accent)}
.layers th[data-dir="1"]::after{content:" \2191"}
.layers th[data-dir="-1"]::after{content:" \2193"}
.layers td:nth-child(2){white-space:nowrap}
.layers td:last-child{min-width:200px;color:var(--soft)}
.heat{border-collapse:separate;border-spacing:3px;width:auto;font-size:12px;margin:8px 12px 12px}
.heat th,.heat td{border:0;padding:3px 6px}
.heat thead th{text-align:center}
.heat tbody th{font-weight:500;font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",
monospace;white-space:nowrap;padding-right:12px}
.heat td{border-radius:4px;text-align:center;min-width:44px;
background:color-mix(in srgb,var(--accent) var(--h),var(--paper))}
.heat td.hot{color:#fff}
.heat td.kept,.heat td.gap{background:none;color:var(--soft)}
.maps{display:flex;flex-wrap:wrap;gap:0 28px}
.maps h3{font-size:13px;font-weight:600;margin:12px 16px 0}
.find{display:flex;gap:12px;align-items:center;padding:8px 14px;color:var(--soft);font-size:12.5px}
.find input{font:inherit;color:inherit;background:var(--paper);border:1px solid var(--line);
border-radius:8px;padding:5px 10px;width:22em;max-width:60%}
.chart{display:block;width:100%;max-width:820px;height:auto;padding:8px 12px;font-size:11px}
.chart text{fill:var(--soft)}
.chart .end{text-anchor:end}
.chart .mid{text-anchor:middle}
.chart .grid-line{stroke:var(--line);fill:none}
.chart .curve{fill:none;stroke-width:2;stroke:currentColor}
.chart .dot{fill:var(--card);stroke:var(--accent);stroke-width:2}
.chart .chosen{fill:var(--accent);stroke:var(--accent)}
.c0{color:var(--accent)}.c1{color:var(--good)}.c2{color:#4a6fb5}.c3{color:var(--warn)}.c4{color:#8a5aa8}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:4px 16px 0;font-size:12.5px}
.legend span::before{content:"";display:inline-block;width:18px;height:3px;background:currentColor;
vertical-align:middle;margin-right:6px}
details h3{font-size:13px;font-weight:600;margin:12px 16px 0}
.scroll{max-height:520px;overflow:auto;border-top:1px solid var(--line)}
.tag{border-radius:5px;padding:1px 7px;background:var(--wash);color:var(--accent);font-size:12px;
white-space:nowrap}
.tag.float{background:var(--line);color:var(--soft)}
pre{margin:0;padding:14px 16px;overflow-x:auto;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,
"DejaVu Sans Mono",monospace}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:16px}
.two td:first-child{color:var(--soft);width:11em}
.two td{overflow-wrap:anywhere;font-size:13.5px;padding:6px 14px}
ul.notes{margin:10px 0 0;padding-left:18px;color:var(--soft);font-size:13.5px}
footer{max-width:1120px;margin:10px auto 40px;padding:0 24px;color:var(--soft);font-size:12.5px}
@media print{.scroll{max-height:none}.card{box-shadow:none}}
)css";
}

// Words in the field keep the rows that hold them all. A click on a head cell sorts by it; data-v
// holds the value where the text is not the order.
std::string_view report_script() {
  return R"js(
for (const table of document.querySelectorAll("table.layers")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const direction = head.dataset.dir === "1" ? -1 : 1;
    for (const other of heads) delete other.dataset.dir;
    head.dataset.dir = direction;
    const value = row => {
      const cell = row.cells[column];
      const raw = cell.dataset.v ?? cell.textContent;
      return raw === "" ? null : isNaN(raw) ? raw : Number(raw);
    };
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === null || y === null) return (x === null) - (y === null);
      if (typeof x === "number" && typeof y === "number") return (x - y) * direction;
      return String(x).localeCompare(String(y), "en", {numeric: true}) * direction;
    });
    table.tBodies[0].append(...rows);
  }));
}
for (const find of document.querySelectorAll(".find")) {
  const rows = [...find.nextElementSibling.querySelectorAll("tbody tr")];
  const [input, count] = find.children;
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = shown + " of " + rows.length + " layers";
  };
  input.addEventListener("input", apply);
  apply();
}
)js";
}

}  // namespace mezzotint::cli

"""The style sheet of the page: plain, for a wide screen, a phone and paper."""

STYLE = """
:root{--ink:#1c1c1c;--quiet:#5b5b5b;--line:#cfcfcf;--soft:#f4f4f2}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1280px;padding:0 20px 60px;background:#fff;color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:28px 0 4px;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:44px 0 8px;padding-top:10px;border-top:2px solid var(--ink)}
h3{font-size:1.02rem;margin:24px 0 6px}
p{margin:8px 0;max-width:80ch}
nav{display:flex;flex-wrap:wrap;gap:4px 14px;margin:12px 0}
nav a{color:#00508f}
.question{font-size:1.08rem;border-left:4px solid var(--ink);padding-left:12px}
.absent{color:var(--quiet);font-style:italic}
.source,.note{color:var(--quiet);font-size:.83rem}
p.source,code{overflow-wrap:anywhere}
td .source,td .note{font-size:.93em}
.scroll{overflow-x:auto;margin:10px 0;-webkit-overflow-scrolling:touch}
table{border-collapse:separate;border-spacing:0;font-size:.86rem;min-width:100%}
th,td{padding:5px 9px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{background:var(--soft);font-weight:600;vertical-align:bottom}
td{overflow-wrap:break-word;max-width:44ch}
td p{margin:0}
td ul{margin:4px 0;padding-left:16px}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;min-width:0}
td:not(.number){min-width:13ch}
th.number{white-space:normal}
.verdict{font-weight:700;white-space:nowrap}
.scroll>table:not(.stacked) td:first-child{position:sticky;left:0;background:#fff}
code,pre{font:.86em/1.45 ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
pre{white-space:pre-wrap;background:var(--soft);padding:10px 12px;margin:8px 0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:18px}
figure{margin:14px 0;max-width:640px}
figure.full{max-width:none}
figure img{width:100%;height:auto;display:block}
figure>.wide{margin:0}
figcaption{color:var(--quiet);font-size:.83rem;margin-top:6px;overflow-wrap:anywhere}
details{margin:12px 0}
summary{cursor:pointer;font-weight:600;padding:4px 0}
.film{max-width:900px}
.film svg{width:100%;height:auto;display:block;font-size:24px;font-family:inherit;fill:var(--ink)}
.film polyline{fill:none;stroke-width:4;stroke-linejoin:round}
.film .truth{stroke:#8a8a8a;stroke-width:8}
.film .prediction{stroke:#b23a00;stroke-dasharray:14 7}
.film .axis{fill:none;stroke:var(--ink);stroke-width:2}
.film .gridline{fill:none;stroke:#dcdcdc;stroke-width:1}
.film .clock{text-anchor:end}
.film:has(.pause:checked) .frame{animation-play-state:paused}
.control{font-size:.86rem}
@media (max-width:600px){
 body{padding:0 12px 40px;font-size:15px}
 table{font-size:.8rem}
 th,td{padding:4px 6px}
 table:not(.stacked) td:not(.number):last-child{min-width:26ch}
 .stacked,.stacked tbody,.stacked tr,.stacked td{display:block;max-width:none;min-width:0}
 .stacked thead{display:none}
 .stacked tr{border-bottom:2px solid var(--line);padding:6px 0}
 .stacked td{border:0;padding:2px 0;text-align:left;white-space:normal}
 .stacked td:not(:first-child)::before{content:attr(data-label) ": ";color:var(--quiet)}
 figure .wide img{width:780px;max-width:none}
 .film svg{font-size:34px}
}
@media (prefers-reduced-motion:reduce){
 .film .frame{animation:none}
 .film .still{visibility:visible}
 .control{display:none}
}
@media print{
 body{max-width:none;padding:0;font-size:10pt}
 nav,.control{display:none}
 .scroll{overflow:visible}
 table{font-size:7.5pt;min-width:0;width:100%}
 th,td{padding:2px 4px;max-width:none;min-width:0!important}
 td{overflow-wrap:anywhere}
 .number{white-space:normal}
 .verdict{white-space:normal}
 tr,figure{break-inside:avoid}
 thead{display:table-header-group}
 h2,h3,summary{break-after:avoid}
 .grid{grid-template-columns:1fr 1fr}
 .film .frame{animation:none}
 .film .still{visibility:visible}
 details:not(.long)::details-content{content-visibility:visible;height:auto}
}
"""

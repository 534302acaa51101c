"""The page around a report: style sheet, script, skeleton. No external resource."""

from html import escape

STYLE = """
:root{color-scheme:light dark;--bg:#f4f5f3;--card:#fff;--ink:#1a2026;--soft:#5c6670;--line:#dfe2df;
--accent:#0b6e8f;--wash:#0b6e8f1f;--warm:#c9481f;--delivery:#5b8def;--queue:#a9b3bb;--nodes:#0b6e8f;
--wait:#e2a93b;--command:#c9481f;--write:#8d7fc0;--stale:#e2a93b40;--safe:#c9481f33;--blind:#a9b3bb59}
@media(prefers-color-scheme:dark){:root{--bg:#12161a;--card:#1b2127;--ink:#e8ecef;--soft:#97a3ad;
--line:#2f373f;--accent:#4db8d8;--wash:#4db8d826;--warm:#f0784c;--delivery:#7aa5f5;--queue:#66727c;
--nodes:#4db8d8;--wait:#e6b450;--command:#f0784c;--write:#a99be0;--stale:#e6b45038;--safe:#f0784c38;
--blind:#66727c59}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,
"Segoe UI","Noto Sans","PingFang SC","Microsoft YaHei",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1060px;margin:0 auto;padding:28px 20px 60px}
header{border-top:5px solid var(--accent);padding-top:14px;margin-bottom:20px}
h1{font-size:30px;line-height:1.15;margin:0;letter-spacing:-.02em}
h1 small{font-size:.6em;font-weight:400;color:var(--soft);letter-spacing:0}
header p{margin:6px 0 0;color:var(--soft)}
h2{font-size:17px;margin:0 0 4px}h3{font-size:14px;margin:18px 0 4px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;
margin-top:16px}
section>p,.note{color:var(--soft);margin:0 0 12px;font-size:13.5px;max-width:80ch}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px}
.cards div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.cards b{display:block;font-size:27px;line-height:1.25;letter-spacing:-.02em;font-weight:650}
.cards b i{font-style:normal;font-size:.55em;font-weight:450;color:var(--soft);margin-left:3px}
.cards span,.cards em{display:block;font-style:normal;font-size:12.5px;color:var(--soft)}
.cards span{color:var(--ink);font-weight:550}.cards .bad b{color:var(--warm)}
.plot{margin:0 0 6px;display:grid;grid-template-columns:38px 1fr;
grid-template-rows:auto 200px 20px auto}
.plot.low{grid-template-rows:auto 110px 20px auto}
.plot figcaption{grid-column:1/3;font-size:12px;color:var(--soft);padding-bottom:6px}
.ys,.xs{position:relative;font-size:11.5px;color:var(--soft)}
.ys span{position:absolute;right:8px;transform:translateY(-50%)}
.xs{grid-column:2}.xs span{position:absolute;top:4px;transform:translateX(-50%)}
.xl{grid-column:2;text-align:center;font-size:12px;color:var(--soft)}
.field{position:relative;border-left:1px solid var(--line);border-bottom:1px solid var(--line)}
.field svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.field path{fill:none;vector-effect:non-scaling-stroke}
.field .grid{stroke:var(--line);stroke-width:1}.field .curve{stroke:var(--accent);stroke-width:1.6}
.field .area{fill:var(--wash)}.bar{fill:var(--accent)}.bar:hover{fill:var(--warm)}
.field .dots{stroke:var(--accent);stroke-width:3.4;stroke-linecap:round;opacity:.55}
.field .dots.out{stroke:var(--warm);opacity:1;stroke-width:5}
.field .mark{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:4 3}
.field .mark.hot{stroke:var(--warm);stroke-dasharray:none}
.label{position:absolute;font-size:11.5px;line-height:1.25;padding:0 5px;color:var(--soft);
white-space:nowrap;background:color-mix(in srgb,var(--card) 78%,transparent)}
.label.hot{color:var(--warm)}
.band.stale,.stale i{fill:var(--stale);background:var(--stale)}
.band.safe,.safe i{fill:var(--safe);background:var(--safe)}
.band.blind,.blind i{fill:var(--blind);background:var(--blind)}
.tip{position:absolute;pointer-events:none;background:var(--ink);color:var(--card);font-size:12px;
padding:2px 7px;border-radius:5px;white-space:nowrap;display:none;top:4px}
.hair{position:absolute;top:0;bottom:0;width:1px;background:var(--soft);pointer-events:none;
display:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:12.5px;color:var(--soft);
margin:4px 0 0 38px}
.legend i,td i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}
.stack{display:flex;height:44px;border-radius:7px;overflow:hidden;margin:8px 0 4px;gap:1px}
.stack div{min-width:3px;overflow:hidden;white-space:nowrap;font-size:12px;line-height:44px;
text-align:center;color:#fff;text-shadow:0 0 3px #0009}
.delivery{background:var(--delivery)}.queue{background:var(--queue)}.nodes{background:var(--nodes)}
.wait{background:var(--wait)}.command{background:var(--command)}.write{background:var(--write)}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:4px 28px}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px}
th{font-weight:550;color:var(--soft);text-align:left;font-size:12px}
th,td{padding:4px 12px 4px 0;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child td{border-bottom:0}.n{text-align:right}th.n{text-align:right}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:10px}
.strip figure{margin:0}.strip svg{width:100%;display:block;border-radius:7px;background:#0003}
.strip figcaption{font-size:12px;color:var(--soft);padding-top:3px}
.box{fill:none;stroke:#ffd23f;stroke-width:2}.axis{stroke:#fff;stroke-width:1.4;fill:none;
filter:drop-shadow(0 0 1px #000)}
.tag{font:600 13px system-ui,sans-serif;fill:#ffd23f;paint-order:stroke;stroke:#000a;
stroke-width:3px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0;font-size:13px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
ul{margin:0;padding-left:18px;font-size:13.5px;max-width:86ch}li{margin:3px 0}
@media(max-width:560px){main{padding:16px 10px 40px}section{padding:14px 12px}h1{font-size:25px}
.plot{grid-template-rows:auto 170px 20px auto}.cards{grid-template-columns:1fr 1fr;gap:8px}
.cards b{font-size:22px}.cards div{padding:10px 12px}.legend{margin-left:0}
.strip{grid-template-columns:1fr 1fr;gap:7px}
.two{grid-template-columns:minmax(0,1fr)}td:first-child{white-space:normal}th,td{padding-right:8px}
dl{grid-template-columns:1fr}dd{margin-bottom:5px}}
@media print{body{background:#fff}section,.cards div{break-inside:avoid}}
"""

SCRIPT = """
for(const f of document.querySelectorAll('.field[data-plot]')){
const d=JSON.parse(f.dataset.plot),div=()=>document.createElement('div'),hair=div(),tip=div();
hair.className='hair';tip.className='tip';f.append(hair,tip);
const show=e=>{const r=f.getBoundingClientRect(),n=d.x.length,
range=d.r||[d.x[0],d.x[n-1]],x=range[0]+(e.clientX-r.left)/r.width*(range[1]-range[0]);
let a=0,b=n-1;while(b-a>1){const m=(a+b)>>1;if(d.x[m]<x)a=m;else b=m}
const i=x-d.x[a]<d.x[b]-x?a:b,p=(d.x[i]-range[0])/(range[1]-range[0])*r.width;
tip.textContent=d.x[i].toFixed(2)+d.n[0]+'   '+d.y[i].toFixed(2)+d.n[1];
for(const k of[hair,tip])k.style.display='block';hair.style.left=p+'px';
tip.style.left=Math.max(0,Math.min(p+8,r.width-tip.offsetWidth))+'px'};
f.addEventListener('pointermove',show);
f.addEventListener('pointerleave',()=>{hair.style.display=tip.style.display='none'})}
"""


def page(title: str, body: str) -> str:
    """A whole document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main><script>{SCRIPT}</script></body></html>\n"
    )


def card(value: str, unit: str, name: str, note: str, *, is_bad: bool = False) -> str:
    """A headline figure."""
    kind = ' class="bad"' if is_bad else ""
    size = f"<i>{escape(unit)}</i>" if unit else ""
    return (
        f"<div{kind}><span>{escape(name)}</span><b>{escape(value)}{size}</b>"
        f"<em>{escape(note)}</em></div>"
    )


def section(title: str, note: str, body: str) -> str:
    """A titled part of the page; nothing when it has no body."""
    about = f"<p>{escape(note)}</p>" if note else ""
    return f"<section><h2>{escape(title)}</h2>{about}{body}</section>" if body else ""

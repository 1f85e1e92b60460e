// Wheels with the bytecode of that Python beside their source: `deno run -A compile.js IN OUT`. Compiling is most of the start in a
// browser, and only Pyodide itself makes what Pyodide reads.

import { loadPyodide } from "pyodide";

// What a notebook imports first. Bytecode doubles a wheel, and of the others little is ever read.
const FIRST = /^(vfiosim|ipython|traitlets|ipywidgets|anywidget)-/;

const [from, to] = Deno.args;
const python = await loadPyodide();
const compiled = python.runPython(`
import importlib.util, io, marshal, zipfile

SELDOM = tuple(f"IPython/{part}/" for part in ("extensions", "external", "sphinxext", "terminal", "testing"))

def compiled(path, data):
    """A wheel whose modules need not be compiled. The bytecode is never checked against the source: they come together."""
    code = compile(data, "/lib/python3.14/site-packages/" + path, "exec", dont_inherit=True, optimize=0)
    unchecked = (1).to_bytes(4, "little") + importlib.util.source_hash(data)
    return importlib.util.MAGIC_NUMBER + unchecked + marshal.dumps(code)

def wheel(data):
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data.to_bytes())) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for item in old.infolist():
            text = old.read(item)
            new.writestr(item.filename, text)
            if item.filename.endswith(".py") and not item.filename.startswith(SELDOM):
                new.writestr(importlib.util.cache_from_source(item.filename), compiled(item.filename, text))
    return made.getvalue()

wheel`);
for (const { name } of Deno.readDirSync(from)) {
  if (FIRST.test(name)) {
    const made = compiled(Deno.readFileSync(`${from}/${name}`));
    Deno.writeFileSync(`${to}/${name}`, made.toJs());
    made.destroy();
  } else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
}

// JupyterLab takes keys for commands of its own, such as "b" for a new cell, from whatever has the focus, unless it or
// something around it has this attribute. Seen with JupyterLab 4.6 (@lumino/commands 2). A button inside a cell's output is
// looked at by itself, so each control has it.
export const KEEPS_KEYS = { "data-lm-suppress-shortcuts": "true" };

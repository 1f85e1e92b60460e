// How much of the player can be seen at once. A frame may be made as high as what is in it (so do VS Code and pages that show
// notebooks in frames): what is in it must not get higher with the frame.
export function sight(root) {
  if (self === parent) return;
  const most = 0.75 * screen.availHeight;
  root.style.setProperty("--sight", `${innerHeight < 400 ? most : Math.min(most, innerHeight)}px`);
}

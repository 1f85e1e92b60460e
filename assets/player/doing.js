// What each action makes a player do.

import { VIEWS } from "./actions.js";

/** @param {any} player @returns {Record<string, () => void>} what is done, by the names of ACTIONS */
export function doing(player) {
  return {
    next: () => player.move(1),
    back: () => player.move(-1),
    single: () => player.finer(() => player.goTo(player.step + 1)),
    unsingle: () => player.finer(() => player.goTo(player.step - 1)),
    effect: () => player.finer(() => player.effect(1)),
    uneffect: () => player.finer(() => player.effect(-1)),
    first: () => player.goTo(0),
    last: () => player.goTo(player.run.last),
    play: () => player.toggle(),
    faster: () => player.faster(1),
    slower: () => player.faster(-1),
    change: () => player.seek(1, player.changing(), "change"),
    unchange: () => player.seek(-1, player.changing(), "change"),
    phase: () => player.seek(1, player.run.phases(), "phase"),
    unphase: () => player.seek(-1, player.run.phases(), "phase"),
    error: () => player.seek(1, player.run.errors(), "error"),
    unerror: () => player.seek(-1, player.run.errors(), "error"),
    all: () => {
      if (player.whole.brief) player.all(!player.full);
      else player.complain("All that there is to see is shown already.");
    },
    why: () => player.askWhy(),
    compare: () => player.compare(player.base === null ? player.step : null),
    share: () => player.share(),
    ...Object.fromEntries(Object.keys(VIEWS).map((name) => [name, () => player.toggleView(name)])),
    room: () => player.room(!player.presenter),
    more: () => player.more(player.bar.second.hidden),
    help: () => player.read("help"),
    legend: () => player.read("legend"),
    leave: () => player.leave(),
  };
}

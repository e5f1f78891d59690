// Writes cron-lines-expected.tsv: when each line of cron-lines.tsv fires, by the rules
// of npm's cron-parser and of npm's croner, which share no code with this package nor
// with each other. Where the two differ, in the hour of a change of the clocks, there is
// a line for each. The tests read the file and need neither Node nor a network. To make
// it anew, in this directory:
//
//   away=$(mktemp -d) && npm install --prefix "$away" cron-parser croner
//   NODE_PATH="$away/node_modules" node cron-lines.mjs > cron-lines-expected.tsv
//
// Each line is asked about round the last two changes of its zone's clocks before 2026
// (rules of the past do not change any more), round two fixed times where there were
// none since 1970.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(process.env.NODE_PATH + '/');
const { CronExpressionParser } = require('cron-parser');
const { Cron } = require('croner');
const { DateTime } = require('luxon');

const hour = 3600e3;
const known = { '@midnight': '0 0 * * *' }; // a name that cron-parser lacks

// changes are the last two instants at which the zone's clocks changed.
function changes(zone) {
  const offset = (at) => DateTime.fromMillis(at, { zone }).offset;
  const found = [];
  for (let at = Date.UTC(2026, 0, 1); at > 0 && found.length < 2; at -= 24 * hour) {
    if (offset(at) === offset(at - 24 * hour)) continue;
    let low = at - 24 * hour, high = at;
    while (high - low > 1000) {
      const middle = low + Math.floor((high - low) / 2000) * 1000;
      if (offset(middle) === offset(low)) low = middle; else high = middle;
    }
    found.push(high);
  }
  return found.length === 2 ? found.reverse() : [Date.UTC(2024, 1, 28, 12), Date.UTC(2025, 11, 31)];
}

// oracles say, of a line and a zone, which time comes after another.
const oracles = {
  'cron-parser': (line, zone) => (after) => CronExpressionParser.parse(known[line] ?? line, { currentDate: new Date(after), tz: zone }).next().getTime(),
  croner: (line, zone) => {
    const cron = new Cron(line, { timezone: zone, paused: true });
    return (after) => cron.nextRun(new Date(after)).getTime();
  },
};

// times are those after from, up to until, at least five.
function times(next, from, until) {
  const all = [];
  for (let at = next(from); at <= until || all.length < 5; at = next(at)) all.push(at);
  return all;
}

const utc = (at) => new Date(at).toISOString().replace('.000Z', 'Z');

const version = (name) => JSON.parse(readFileSync(`${process.env.NODE_PATH}/${name}/package.json`)).version;
console.log(`# line, zone, from, by whom, times after it: cron-parser ${version('cron-parser')}, croner ${version('croner')}, tzdata ${process.versions.tz}; see cron-lines.mjs`);
for (const row of readFileSync('cron-lines.tsv', 'utf8').split('\n')) {
  if (!row) continue;
  const [line, zone] = row.split('\t');
  for (const change of changes(zone)) {
    const said = {};
    for (const [name, oracle] of Object.entries(oracles)) {
      try {
        const next = oracle(line.trim(), zone);
        let from = change - 25 * hour, all = times(next, from, change + 25 * hour);
        if (all.length > 60) {
          from = change - 2 * hour;
          all = times(next, from, change + 3 * hour);
        }
        said[name] = [utc(from), all.map(utc).join(' ')];
      } catch (error) {
        said[name] = [utc(change), 'refused: ' + error.message];
      }
    }
    const same = said.croner.join() === said['cron-parser'].join();
    const both = { both: said.croner };
    for (const [name, [from, fires]] of Object.entries(same ? both : said)) {
      console.log([line, zone, from, name, fires].join('\t'));
    }
  }
}

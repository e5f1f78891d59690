// Package calendar turns the text of a schedule, a cron expression and the name
// of a time zone, into the times at which the schedule fires.
//
// Everything here is a pure function of its arguments: no clock, no database,
// no goroutine. robfig/cron finds the next match; two things stand round it.
//
//	text ──▶ our own grammar ──▶ robfig/cron, on a wall clock ──▶ the zone ──▶ time
//	         refuses what          that knows no daylight          places the wall
//	         panics, misleads      saving and so no gap            time on the real
//	         or never fires                                        time line
//
// # What is written
//
// Five fields: minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC,
// weekday 0-6 or SUN-SAT. A field is * or a list of numbers and ranges, each *
// and range with an optional step: 0,30  9-17  */15  10-50/20  MON-FRI. Names
// may be in any case. When day of month and weekday are both restricted, a day
// that matches either one fires ([Schedule.Warnings] says so); a field counts as
// restricted unless it is * or */1.
//
// Instead of five fields: @hourly @daily @midnight @weekly @monthly @yearly
// @annually, or @every with a duration of at least [MinInterval] in whole
// seconds. @every fires at the multiples of its duration counted from the Unix
// epoch in UTC (@every 1h on the hour, @every 24h at midnight UTC), or from
// [Spec].Start. So it does not drift, and needs to remember nothing.
//
// # Daylight saving
//
// A schedule whose minute and hour both name fixed times (no leading *) fires
// once for each wall time that it names. If the clocks jump over that time it
// fires at the end of the jump; if the time comes twice, it fires the first time
// only. Several times inside one jump fall together into one fire.
//
// A schedule whose minute or hour begins with * follows elapsed time: */15 fires
// every quarter of an hour that passes, in both passes of a repeated hour and at
// no time of a skipped one. Its weakness: "*/15 2 * * *" has no fire on the day
// on which the hour 2 is skipped.
//
// A jump may end on the next day: 23:30 in America/Nuuk on the last Saturday of
// March is answered with Sunday 00:00, and 30 December 2011 in Pacific/Apia, a
// day that the islands skipped whole, with the first instant of the 31st.
//
// # What narrows it
//
// A [Spec] may have a start, an end, a number of occurrences, calendars of days on
// which nothing fires, and windows of the day. [Schedule.Skips] tells what they, or
// the clocks, keep from firing.
//
// # Bounds
//
// Texts, lists, calendars and windows are bounded, and so is the time of every
// call: Next takes a microsecond, and at most 5,000 looks past exclusions; counting
// a month that was missed takes some milliseconds.
//
// Zone rules come from the tzdata of the machine, or from the copy compiled in
// where the machine has none.
package calendar

// Choosing a preset sets its three sliders; moving one of them clears the preset. Runs in the
// browser, so that moving a slider needs one answer of the server, not two.
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.explore = {
    mix: function (preset, parts, mixes) {
        const skip = window.dash_clientside.no_update;
        const triggered = window.dash_clientside.callback_context.triggered;
        if (triggered.some((one) => one.prop_id === "preset.value")) {
            return [preset ? mixes[preset] : parts.map(() => skip), skip];
        }
        const same = preset && mixes[preset].every((value, n) => value === parts[n]);
        return [parts.map(() => skip), same ? skip : null];
    },
    // Whether the window is narrow, for figures that are drawn by the server; again when it changes.
    narrow: function (id) {
        const window_is = window.matchMedia("(max-width: 760px)");
        window_is.onchange = () => window.dash_clientside.set_props(id, {data: window_is.matches});
        return window_is.matches;
    },
};

// What Dash's components lack for keyboards and screen readers: names of sliders and dropdowns, and
// tabs that can be reached and chosen with keys.
(function () {
    const each = (selector, change) => document.querySelectorAll(selector).forEach(change);

    function name_sliders() {
        each(".slider [role=slider]:not([aria-label])", (thumb) => {
            const name = thumb.closest(".slider").querySelector(".name");
            thumb.setAttribute("aria-label", name.getAttribute("aria-label") || name.textContent);
        });
    }

    function name_dropdowns() {
        each("label[for]:not([id])", (label) => {
            const dropdown = document.getElementById(label.htmlFor);
            if (!dropdown || !dropdown.classList.contains("dash-dropdown")) return;
            label.id = `${label.htmlFor}-label`;
            const value = dropdown.getAttribute("aria-labelledby") || "";
            dropdown.setAttribute("aria-labelledby", `${label.id} ${value}`);
        });
    }

    function name_tabs() {
        each(".tab-container", (list) => list.setAttribute("role", "tablist"));
        each(".tab-container > .tab", (tab) => {
            const chosen = tab.classList.contains("selected");
            tab.setAttribute("role", "tab");
            tab.setAttribute("aria-selected", chosen);
            tab.tabIndex = chosen ? 0 : -1;
            if (chosen) each(".tab-content", (panel) => {
                panel.setAttribute("role", "tabpanel");
                panel.setAttribute("aria-label", tab.textContent);
            });
        });
    }

    // In a narrow window all groups of controls but the blocks begin folded: rankings come first.
    function fold_groups() {
        each("details.group:not([data-met])", (group) => {
            group.dataset.met = "";
            if (window.matchMedia("(max-width: 760px)").matches) group.open = false;
        });
    }

    document.addEventListener("keydown", (event) => {
        const tab = event.target.closest && event.target.closest("[role=tab]");
        if (!tab) return;
        const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
        const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
        const next = tabs[(tabs.indexOf(tab) + (step || 0) + tabs.length) % tabs.length];
        if (!step && event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        next.click();
        next.focus();
    });

    const watch = new MutationObserver(() => {
        name_sliders();
        name_dropdowns();
        name_tabs();
        fold_groups();
    });
    watch.observe(document.documentElement, {
        childList: true, subtree: true, attributes: true, attributeFilter: ["class"],
    });
})();
